"""A request that is under way: its id, its terms, and that it is there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from router.access.limits import Admission
from router.access.principal import Principal
from router.failover.proxied import ProxiedRequest
from router.model import Outcome
from router.relay.protocols import Route
from router.runtime.cancellation import Cancellation
from router.tracing.spans import RequestSpans
from router.usage.account import UsageAccount
from router.web.inference.headers import USUAL, RequestTerms, TimeLimit

_SAFE_ID = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)


@dataclass(frozen=True, slots=True)
class IngressLimits:
    """What a client may send, and how long it may wait."""

    max_body_bytes: int
    queue_seconds: float
    request_seconds: float
    first_token_seconds: float = float("inf")


@dataclass(slots=True)
class ClientRequest:
    """One request at the door, until its last byte."""

    route: Route
    request_id: str
    arrived: float
    principal: Principal
    cancellation: Cancellation = field(default_factory=Cancellation)
    model: str = "unknown"
    node: str = ""
    status: int = 0
    outcome: str = Outcome.REFUSED.value
    attempts: int = 0
    sender: Mapping[str, str] = field(default_factory=dict)
    terms: RequestTerms = USUAL
    limit: TimeLimit | None = None
    call: ProxiedRequest | None = None
    account: UsageAccount | None = None
    ticket: Admission | None = None
    tokens: int = 0
    spans: RequestSpans | None = None
    limit_headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def trace_id(self) -> str:
        """Name its trace; empty where it is not recorded."""
        return self.spans.trace_id if self.spans is not None else ""

    def keep_to(self, terms: RequestTerms) -> None:
        """Take over the client's terms; its time runs since its arrival."""
        self.terms = terms
        left = self.arrived + terms.seconds - time.monotonic()
        self.limit = TimeLimit(left, self.cancellation)

    def release(self) -> None:
        if self.limit:
            self.limit.close()


class ClientRequests:
    """The requests under way, so that a shutdown can end them with a frame."""

    def __init__(self) -> None:
        self._cancellations: dict[int, Cancellation] = {}
        self._turned_away: Outcome | None = None

    def __len__(self) -> int:
        return len(self._cancellations)

    def enter(self, request: ClientRequest) -> None:
        self._cancellations[id(request)] = request.cancellation
        if self._turned_away:
            request.cancellation.stop(self._turned_away)

    def leave(self, request: ClientRequest) -> None:
        self._cancellations.pop(id(request), None)

    def turn_away(self, outcome: Outcome) -> None:
        """Stop every request that comes from now on."""
        self._turned_away = outcome

    def stop_all(self, outcome: Outcome) -> None:
        for cancellation in list(self._cancellations.values()):
            cancellation.stop(outcome)


def request_id(environ: Mapping[str, Any]) -> str:
    """Return the client's own id where it is harmless, otherwise a new one."""
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    if 0 < len(given) <= 64 and _SAFE_ID.issuperset(given):
        return given
    return next(_ids)


def _random_ids() -> Iterator[str]:
    """Yield 128 random bits each, in hex; the kernel is asked for many at a time."""
    while True:
        many = os.urandom(16 * 64).hex()
        yield from (many[at : at + 32] for at in range(0, len(many), 32))


_ids = _random_ids()
