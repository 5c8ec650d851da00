"""What replies tell of each node and model: first token, speed, load, silence.

Told at the end of each lease, once a reply: plain numbers, and families only at a
scrape. The children of prometheus_client would take a lock for each of ten counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from router.capacity.ledger import Lease
from router.capacity.load_time import COLD_LOAD_SECONDS
from router.metrics.buckets import Buckets
from router.metrics.families import gauges, totals
from router.model import DoneReason, Outcome, Timings

# Every target of an objective is an edge: between edges a share can only be guessed.
FIRST_TOKEN_EDGES = (
    *(0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5),
    *(10, 15, 20, 30, 60, 120, 300),
)
PER_TOKEN_EDGES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
LENGTH_EDGES = (4, 16, 64, 256, 1024, 4096, 16384, 65536)  # tokens
LOAD_EDGES = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)  # Ollama gives up at 300

CUT = "cut"  # beside the reasons that nodes give

# Of a node and model nobody asks for any more, the oldest are forgotten.
MOST_PAIRS = 4096

_PAIR = ("node", "model")


class ModelStart(StrEnum):
    """Whether a reply had to wait for its model to be loaded."""

    WARM = "warm"
    COLD = "cold"
    UNKNOWN = "unknown"


class ReplyKind(StrEnum):
    STREAM = "stream"
    WHOLE = "whole"


@dataclass(slots=True)
class _Pair:
    """All counts of one node and model."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    timed_prompt_tokens: int = 0
    timed_generated_tokens: int = 0
    load_seconds: float = 0.0
    prompt_seconds: float = 0.0
    generate_seconds: float = 0.0
    wait_seconds: float = 0.0
    first_token: dict[ModelStart, Buckets] = field(default_factory=dict)
    prompts: Buckets = field(default_factory=lambda: Buckets(LENGTH_EDGES))
    answers: Buckets = field(default_factory=lambda: Buckets(LENGTH_EDGES))
    per_token: Buckets = field(default_factory=lambda: Buckets(PER_TOKEN_EDGES))
    load: Buckets = field(default_factory=lambda: Buckets(LOAD_EDGES))
    longest: dict[ReplyKind, float] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)

    def end(self, reason: str) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Replies(Collector):
    """Counts each reply that came, at the end of its lease; `clock` is the ledger's."""

    def __init__(
        self, clock: Callable[[], float], most_pairs: int = MOST_PAIRS
    ) -> None:
        self._clock = clock
        self._most_pairs = most_pairs
        self._pairs: dict[tuple[str, str], _Pair] = {}

    def ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        """Take in a lease's end (`router.capacity.ledger.Ledger.listen`)."""
        whole = outcome is Outcome.END
        if lease.decoding_since is None and not (
            whole and timings and _counted(timings)
        ):
            return  # nothing came, or an error that names any model a client likes
        pair = self._pair(lease.node, lease.model)
        _reason(pair, lease, timings, whole=whole)
        now = self._clock()
        trace_id = lease.span.trace_id if lease.span is not None else ""
        _silence(pair, lease, now, whole=whole)
        if lease.first_token_seconds is not None:
            start = _start(lease, timings)
            buckets = pair.first_token.get(start)
            if buckets is None:
                buckets = pair.first_token[start] = Buckets(FIRST_TOKEN_EDGES)
            buckets.observe(lease.first_token_seconds, trace_id)
        if timings is not None:
            _tokens(pair, timings)
            _phases(pair, timings)
            pace = seconds_per_token(lease.decoding_since, timings, now)
            if pace is not None:
                pair.per_token.observe(pace, trace_id)

    def answered(self, node: str, model: str, reason: DoneReason) -> None:
        """Count a reply that needed no slot; one that tells no reason is none."""
        if reason is not DoneReason.NONE:
            self._pair(node, model).end(reason)

    def keep(self, nodes: Collection[str]) -> None:
        """Forget the nodes that left the inventory."""
        gone = [key for key in self._pairs if key[0] not in nodes]
        for key in gone:
            del self._pairs[key]

    def _pair(self, node: str, model: str) -> _Pair:
        pair = self._pairs.get((node, model))
        if pair is None:
            if len(self._pairs) >= self._most_pairs:
                del self._pairs[next(iter(self._pairs))]
            pair = self._pairs[node, model] = _Pair()
        return pair

    def collect(self) -> Iterator[Metric]:
        pairs = list(self._pairs.items())
        yield totals(
            "inferops_replies",
            "Replies by why they ended, as their node says it; cut: one that had begun"
            " and did not end there, none: its node did not say.",
            (*_PAIR, "reason"),
            [
                ((*key, reason), count)
                for key, pair in pairs
                for reason, count in pair.reasons.items()
            ],
        )
        yield from _token_families(pairs)
        yield from _phase_families(pairs)
        yield from _histograms(pairs)
        yield gauges(
            "inferops_silent_longest_seconds",
            "Longest time on a node until the first line of a stream, or until a"
            " whole reply, of all that came since the router started.",
            (*_PAIR, "reply"),
            [
                ((*key, kind.value), seconds)
                for key, pair in pairs
                for kind, seconds in pair.longest.items()
            ],
        )


def _counted(timings: Timings) -> bool:
    return bool(
        timings.prompt_tokens
        or timings.generated_tokens
        or timings.total_seconds
        or timings.done_reason is not DoneReason.NONE
    )


def _reason(pair: _Pair, lease: Lease, timings: Timings | None, *, whole: bool) -> None:
    """Count why it ended, of whatever has an end: an embedding has none."""
    reason = timings.done_reason if timings else DoneReason.NONE
    if not whole:
        pair.end(CUT)
    elif (
        reason is not DoneReason.NONE
        or lease.decoding_since is not None
        or (timings and timings.generated_tokens)
    ):
        pair.end(reason)


def _silence(pair: _Pair, lease: Lease, now: float, *, whole: bool) -> None:
    if lease.decoding_since is not None:
        kind, came = ReplyKind.STREAM, lease.decoding_since
    elif whole and not lease.streams:
        kind, came = ReplyKind.WHOLE, now
    else:
        return
    pair.longest[kind] = max(pair.longest.get(kind, 0.0), came - lease.taken_at)


def _start(lease: Lease, timings: Timings | None) -> ModelStart:
    if timings is not None and timings.load_seconds > 0:
        return (
            ModelStart.COLD
            if timings.load_seconds >= COLD_LOAD_SECONDS
            else ModelStart.WARM
        )
    if lease.resident is None:
        return ModelStart.UNKNOWN
    return ModelStart.WARM if lease.resident else ModelStart.COLD


def _tokens(pair: _Pair, timings: Timings) -> None:
    pair.prompt_tokens += timings.prompt_tokens
    pair.generated_tokens += timings.generated_tokens
    if timings.prompt_tokens:
        pair.prompts.observe(timings.prompt_tokens)
    if timings.generated_tokens:
        pair.answers.observe(timings.generated_tokens)


def _phases(pair: _Pair, timings: Timings) -> None:
    """Add seconds, and tokens only of phases whose seconds are told."""
    if timings.prompt_seconds > 0:
        pair.prompt_seconds += timings.prompt_seconds
        pair.timed_prompt_tokens += timings.prompt_tokens
    if timings.generate_seconds > 0:
        pair.generate_seconds += timings.generate_seconds
        pair.timed_generated_tokens += timings.generated_tokens
    load = timings.load_seconds
    pair.load_seconds += load
    if load >= COLD_LOAD_SECONDS:
        pair.load.observe(load)
    if timings.total_seconds > 0:
        busy = load + timings.prompt_seconds + timings.generate_seconds
        pair.wait_seconds += max(0.0, timings.total_seconds - busy)


def seconds_per_token(
    decoding_since: float | None, timings: Timings, now: float
) -> float | None:
    """Return a reply's time for each token; None where it cannot be told."""
    tokens = timings.generated_tokens
    if tokens < 2:
        return None
    if timings.generate_seconds > 0:
        return timings.generate_seconds / tokens
    if decoding_since is None:
        return None
    # `/v1`: the first token is there when the clock starts.
    return (now - decoding_since) / (tokens - 1)


_Pairs = Iterable[tuple[tuple[str, str], _Pair]]


def _token_families(pairs: _Pairs) -> Iterator[Metric]:
    yield totals(
        "inferops_tokens",
        "Tokens as the nodes' own counters tell them.",
        (*_PAIR, "kind"),
        [
            ((*key, kind), count)
            for key, pair in pairs
            for kind, count in (
                ("prompt", pair.prompt_tokens),
                ("generated", pair.generated_tokens),
            )
        ],
    )
    yield totals(
        "inferops_reply_phase_tokens",
        "Tokens of those replies whose node told the time of the phase;"
        " prompt includes what its prefix cache had.",
        (*_PAIR, "phase"),
        [
            ((*key, phase), count)
            for key, pair in pairs
            for phase, count in (
                ("prompt", pair.timed_prompt_tokens),
                ("generate", pair.timed_generated_tokens),
            )
        ],
    )


def _phase_families(pairs: _Pairs) -> Iterator[Metric]:
    yield totals(
        "inferops_reply_phase_seconds",
        "Time of replies in each phase as their node told it (/api, not /v1); load"
        " includes waiting for room, wait is the rest of the total.",
        (*_PAIR, "phase"),
        [
            ((*key, phase), seconds)
            for key, pair in pairs
            for phase, seconds in (
                ("load", pair.load_seconds),
                ("prompt", pair.prompt_seconds),
                ("generate", pair.generate_seconds),
                ("wait", pair.wait_seconds),
            )
        ],
    )


def _histograms(pairs: _Pairs) -> Iterator[Metric]:
    first = HistogramMetricFamily(
        "inferops_time_to_first_token_seconds",
        "From a request's arrival to the first line of its stream, counted at its"
        f" end; cold: its node told a load of {COLD_LOAD_SECONDS} s or more, or,"
        " where it does not tell, had not listed the model as loaded.",
        labels=(*_PAIR, "start"),
    )
    per_token = HistogramMetricFamily(
        "inferops_time_per_output_token_seconds",
        "A reply's time for each token after the prompt, as its node told it;"
        " for streams on /v1 by the router's clock.",
        labels=_PAIR,
    )
    load = HistogramMetricFamily(
        "inferops_model_load_seconds",
        f"Loads of {COLD_LOAD_SECONDS} s or more that a reply waited for, waiting for"
        " room included, load_duration of its last line.",
        labels=_PAIR,
    )
    lengths = HistogramMetricFamily(
        "inferops_reply_tokens",
        "Tokens of a reply's prompt and of its answer, as its node counts them.",
        labels=(*_PAIR, "kind"),
    )
    for key, pair in pairs:
        for start, buckets in pair.first_token.items():
            buckets.add_to(first, (*key, start.value))
        pair.per_token.add_to(per_token, key)
        pair.load.add_to(load, key)
        pair.prompts.add_to(lengths, (*key, "prompt"))
        pair.answers.add_to(lengths, (*key, "generated"))
    yield from (first, per_token, load, lengths)
