"""Values that every part of the router speaks in; no I/O, no clock.

Seconds, bytes and ratios from 0 to 1 everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# Ollama's own grammar of a name (`types/model/name.go`), case ignored.
_NAME = re.compile(
    r"""
    (?: (?: [^/]* ://)? (?P<host> [a-z0-9_][a-z0-9_.:-]{0,349}) /
        (?= [^/]+ / [^/]+ \Z) )?
    (?: (?P<namespace> [a-z0-9_][a-z0-9_-]{0,79}) /)?
    (?P<model> [a-z0-9_][a-z0-9_.-]{0,79})
    (?: : (?P<tag> [a-z0-9_][a-z0-9_.-]{0,79}))?
    """,
    re.VERBOSE | re.ASCII,
)
_LONGEST_NAME = 640  # of all parts, with a scheme
_REGISTRY = "registry.ollama.ai"
_LIBRARY = "library"


def canonical(model: str) -> str:
    """Return the one name for all the forms in which Ollama takes a model's name.

    It is the shortest, as `ollama list` shows it, in lower case: `counting:latest`
    for `Counting`, `library/counting` and
    `https://registry.ollama.ai/library/counting:latest`. What Ollama's grammar does
    not allow is returned as it is: no node has it.
    """
    parts = _parts(model)
    if parts is None:
        return model
    host, namespace, name, tag = parts
    if host != _REGISTRY:
        prefix = f"{host}/{namespace}/"
    else:
        prefix = "" if namespace == _LIBRARY else f"{namespace}/"
    return f"{prefix}{name}:{tag}"


def is_model_name(model: str) -> bool:
    """Whether a model may have this name; what is not one is never looked for."""
    return _parts(model) is not None


def _parts(model: str) -> tuple[str, str, str, str] | None:
    # Checked first: what is remembered of strangers' names has a size.
    return _parse(model) if len(model) <= _LONGEST_NAME else None


@lru_cache(maxsize=4096)
def _parse(model: str) -> tuple[str, str, str, str] | None:
    found = _NAME.fullmatch(model.strip().lower()) if model.isascii() else None
    if found is None:
        return None
    host, namespace, name, tag = found.groups()
    return host or _REGISTRY, namespace or _LIBRARY, name, tag or "latest"


@dataclass(frozen=True, slots=True)
class Access:
    """What a peer's login and certificate are checked with; files by their paths.

    token_file:    a bearer token
    password_file: the password of `username` for Basic authentication
    ca_file:       the certificates that its own must be signed by, in PEM; None
                   means those that this machine trusts
    pin:           SHA-256 of its certificate in lower-case hex; names and
                   signatures do not count then
    """

    username: str = ""
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    pin: str | None = None


NO_ACCESS = Access()


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the inventory and its Ollama endpoint.

    url:        base URL of Ollama, perhaps with a path, without a trailing slash
    access:     its login and certificate
    slots:      configured ceiling of requests in flight; None where not given
    attributes: static numbers by name, in base units (vram_bytes, tflops,
                temperature_limit_celsius)
    """

    name: str
    url: str
    slots: int | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)
    access: Access = NO_ACCESS


@dataclass(frozen=True, slots=True)
class Inventory:
    """The nodes, in the order of the file; `digest` identifies the content."""

    nodes: tuple[Node, ...]
    digest: str = ""

    def names(self) -> frozenset[str]:
        return frozenset(node.name for node in self.nodes)


class Missing(StrEnum):
    """What a signal without a reading means: nothing, or the worst."""

    NEUTRAL = "neutral"
    WORST = "worst"


@dataclass(frozen=True, slots=True)
class Signal:
    """A named PromQL expression that yields one series per `node`.

    A reading at `worst` counts 0, at `best` counts 1, linear between, clamped.
    """

    name: str
    query: str
    weight: float
    worst: float
    best: float
    missing: Missing = Missing.NEUTRAL


@dataclass(frozen=True, slots=True)
class Part:
    """One signal's share in a node's score.

    reading:    the raw value; None where the signal has no series for the node
    normalised: 0 to 1; None where it is missing and counts as neutral
    """

    signal: str
    reading: float | None
    normalised: float | None
    weight: float


@dataclass(frozen=True, slots=True)
class Score:
    """A node's base capability, 0 to 1, with the parts that made it."""

    value: float
    parts: tuple[Part, ...] = ()


class HoldKind(StrEnum):
    """Who keeps work away from a node."""

    CORDON = "cordon"  # an operator
    DRAIN = "drain"  # an alert
    EVICT = "evict"  # an alert; requests under way are moved as well
    DERATE = "derate"  # an alert; keeps nothing away, but the node gets less
    DOWN = "down"  # a probe, or live traffic


class HoldState(StrEnum):
    """How sure a hold is; only alerts' holds are ever less than confirmed."""

    PROVISIONAL = "provisional"  # notified; the level has not spoken yet
    CONFIRMED = "confirmed"
    UNKNOWN = "unknown"  # the alert is gone, but nothing proves the node well

    @classmethod
    def _missing_(cls, value: object) -> HoldState | None:
        """Read stored holds of releases before 0.2."""
        return cls.PROVISIONAL if value == "doorbell" else None


class Clear(StrEnum):
    """What may lift an alert's hold (the rule's label `clear`)."""

    AUTO = "auto"  # the level pass, when it proves the node well
    MANUAL = "manual"  # an operator only
    VERIFIED = "verified"  # the level, and then a generation that succeeds


@dataclass(frozen=True, slots=True)
class Hold:
    """One reason why a node gets no new work.

    source: `operator:<who>`, `alert:<alertname>:<fingerprint>`, `probe`, `traffic`
    since, until: unix seconds; `until` None means until lifted
    labels: the alert's labels; of a cordon: `silence`, the id of the one it posted
    Identity is (node, kind, source).
    """

    node: str
    kind: HoldKind
    source: str
    reason: str
    since: float
    until: float | None = None
    state: HoldState = HoldState.CONFIRMED
    clear: Clear = Clear.AUTO
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, HoldKind, str]:
        return (self.node, self.kind, self.source)

    @property
    def alert(self) -> str | None:
        """Name of the alert that placed it; None where a person or a probe did."""
        parts = self.source.split(":")
        return parts[1] if parts[0] == "alert" and len(parts) > 1 else None

    @property
    def factor(self) -> float:
        """What a derate leaves of the node, over 0 and at most 1."""
        return factor_of(self.labels) if self.kind is HoldKind.DERATE else 1.0


_FACTOR = 0.5  # of a rule that names none


def factor_of(labels: Mapping[str, str]) -> float:
    """Read a derating rule's label `factor`; raises ValueError."""
    factor = float(labels.get("factor", _FACTOR))
    if not 0 < factor <= 1:
        raise ValueError(f"must be over 0 and at most 1, got {factor}")
    return factor


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's word that a node serves despite one alert, for a while.

    alert: the alert's name; since, until: unix seconds
    """

    node: str
    alert: str
    by: str
    reason: str
    since: float
    until: float

    @property
    def key(self) -> tuple[str, str]:
        return (self.node, self.alert)


class Degrade(StrEnum):
    """How good the scores are that dispatch reads, best first."""

    FRESH = "fresh"
    LAST_GOOD = "last_good"  # Prometheus is silent: old readings, decaying
    OWN = "own"  # readings too old: in-flight and measured speed only
    STATIC = "static"  # never had a reading: weights of the inventory

    @property
    def step(self) -> int:
        return list(Degrade).index(self)


class Priority(StrEnum):
    """In the queue: who was being served first, then people, then batch."""

    CONTINUED = "continued"  # a client's stream that broke; nobody may ask for it
    INTERACTIVE = "interactive"
    BATCH = "batch"


class Outcome(StrEnum):
    """How a relayed reply ended; the one enumeration for ledger and metrics."""

    END = "end"  # the protocol's own last line was seen
    EOF = "eof"  # the node closed before its last line
    ERROR_LINE = "error_line"  # the node said in mid-stream that it failed
    STALLED = "stalled"  # nothing came for too long
    CLIENT_GONE = "client_gone"
    SHUTDOWN = "shutdown"
    DEADLINE = "deadline"  # the request's time limit passed
    REVOKED = "revoked"  # taken back for a person
    EVICTED = "evicted"  # its node is being emptied
    REFUSED = "refused"  # no reply that the client could be given


class Cause(StrEnum):
    """Why an attempt failed, where that speaks of the node or of a model on it."""

    TIMEOUT = "timeout"  # nothing came within the limit
    RESET = "reset"  # the node closed the connection before its reply was complete
    RUNNER_DIED = "runner_died"
    LOAD_FAILED = "load_failed"
    OUT_OF_MEMORY = "out_of_memory"
    GPU_ERROR = "gpu_error"
    MODEL_MISSING = "model_missing"
    DENIED = "denied"  # 401, 403, 407
    NOT_OLLAMA = "not_ollama"  # a login page, a redirect, a proxy's own error
    GATEWAY = "gateway"  # 502, 503, 504 of a proxy
    OVERLOADED = "overloaded"  # 429, or Ollama's own queue is full
    TOO_LARGE = "too_large"  # for this node's limits; says nothing of its health
    EMPTY = "empty"  # done, and no token was generated
    NONSENSE = "nonsense"  # 200, and not what the route answers with
    ERROR = "error"  # words that are not known
    BROKE_OFF = "broke_off"  # a stream that ended before its last line
    STALLED = "stalled"  # a stream that stood still for too long


class DoneReason(StrEnum):
    """Why a node says that its reply ended, in Ollama's words for all dialects."""

    STOP = "stop"  # the model came to an end, or to a word that was to stop it
    LENGTH = "length"  # as long as was asked for, or as the context allows
    TOOL_CALLS = "tool_calls"  # only `/v1` tells it: `/api` says stop
    LOAD = "load"  # nothing was asked: the model was only loaded
    UNLOAD = "unload"
    OTHER = "other"  # a word that is not known here
    NONE = "none"  # untold


class Timings(NamedTuple):
    """What a finished reply tells of itself; seconds and tokens, 0 if untold."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prompt_seconds: float = 0.0
    generate_seconds: float = 0.0
    load_seconds: float = 0.0
    total_seconds: float = 0.0
    done_reason: DoneReason = DoneReason.NONE

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of this one stream; None where it cannot be told."""
        if self.generated_tokens < 2 or self.generate_seconds <= 0:
            return None
        return self.generated_tokens / self.generate_seconds
