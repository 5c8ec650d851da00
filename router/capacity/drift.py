"""Whether streams that run come as fast as their node was known to be; pure.

A reply shows its speed once it has ended, on a node that slowed down so much later.
What passes to clients meanwhile is kept already: every look compares what came since
the last one with what was learned. Two looks in a row that are far off are a drift.

What explains slowness is no drift: prompts that are read beside it, streams of another
model, a client that does not take its tokens, a router that was late itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

from router.capacity.concurrency import (
    MOST_READ,
    STANDS_STILL,
    ConcurrencyLog,
    Phases,
)
from router.capacity.throughput import ThroughputCurve

LOOK_SECONDS = 2.0
_MOST_STREAMS = 8  # of a node that are compared: what slows it slows them all
_LATE_SECONDS = 1.0  # a look that much too late shows that the router was busy
_LONGEST_SECONDS = 20.0  # of one comparison
_LEAST_TOKENS = 8.0  # expected of a stream before it is compared
# Shares of what was expected, beyond which a look is far off. Replies of one node are
# spread by less; speeds at a number of streams that the node did not show are guesses.
_SHOWN = (0.6, 1.6)
_GUESSED = (0.45, 2.2)
_IN_A_ROW_SECONDS = 15.0
_SHARE = 0.2  # of a new reading of how many tokens a line has
_LEARNED_OF = 16  # ends, one is counted: a line takes 0.1 µs
_MOST_MODELS = 1024

Key = tuple[str, str]


class Counted(Protocol):
    """A reply under way (`router.relay.upstream.UpstreamReply`).

    reads: how often lines of text came, which costs nothing to ask; None where that
           says nothing of the node
    lines: how many came: as many, or more where the router was slow to read them
    """

    @property
    def reads(self) -> int | None: ...
    @property
    def lines(self) -> int: ...


class RunningStream(Phases, Protocol):
    """What is read of a lease."""

    @property
    def model(self) -> str: ...
    @property
    def reply(self) -> Counted | None: ...


class Drift(NamedTuple):
    """A node runs a model at a share of the speed that was known."""

    key: Key
    share: float


class Since(NamedTuple):
    """When a drift was noticed in a stream, and how many tokens it had by then."""

    at: float
    tokens: float


class _Look(NamedTuple):
    """What came of a stream in a time, beside what was expected; tokens.

    least: expected, had it stood still while prompts were read
    shown: whether the node did show its speed at this number of streams
    exact: whether lines were counted, not reads
    """

    tokens: float
    expected: float
    least: float
    shown: bool
    exact: bool


@dataclass(slots=True)
class _Seen:
    """A stream as it was when it was last compared.

    lines:   None where they were not counted then
    drifted: when a drift was noticed in it
    """

    reply: Counted
    at: float
    reads: int = 1
    lines: int | None = 1
    drifted: Since | None = None

    def tokens(self, reads: int, per_line: float, enough: float) -> tuple[float, bool]:
        """Return tokens since then, and whether exactly: only where `reads` are few."""
        tokens = (reads - self.reads) * per_line
        before, self.reads, self.lines = self.lines, reads, None
        if tokens >= enough:
            return tokens, False
        self.lines = self.reply.lines
        if before is None:
            return tokens, False
        return (self.lines - before) * per_line, True


class DriftDetector:
    """Compares streams from look to look; the ledger says when, and what with."""

    def __init__(self) -> None:
        self._seen: dict[RunningStream, _Seen] = {}
        self._far_off: dict[Key, tuple[float, bool]] = {}  # when, and whether slower
        self._per_line: OrderedDict[str, float] = OrderedDict()  # tokens, by model
        self._ends = 0
        self._looked_at = float("-inf")

    def begin(self, now: float) -> None:
        """Begin a look; one that is late compares nothing."""
        late = now - self._looked_at > LOOK_SECONDS + _LATE_SECONDS
        self._looked_at = now
        if late:
            for seen in self._seen.values():
                seen.at, seen.reads, seen.lines = now, seen.reply.reads or 0, None

    def look(
        self,
        node: str,
        streams: Collection[RunningStream],
        log: ConcurrencyLog,
        curves: Mapping[Key, ThroughputCurve],
        now: float,
    ) -> list[Drift]:
        """Compare the streams of a node; return what is confirmed."""
        looks: dict[str, list[_Look]] = {}
        for each in islice(streams, _MOST_STREAMS):
            seen, per_line = self._take(each, now), self._per_line.get(each.model)
            curve = curves.get((node, each.model))
            if seen is None or curve is None or per_line is None:
                continue
            others = [other for other in streams if other is not each]
            moment = _Moment(log, curve, others, per_line, now)
            if found := _compare(seen, moment):
                looks.setdefault(each.model, []).append(found)
        drifts = []
        for model, some in looks.items():
            share = self._confirmed((node, model), some, now)
            if share is not None:
                drifts.append(Drift((node, model), share))
                self._reset(streams, model, now)
        return drifts

    def _take(self, stream: RunningStream, now: float) -> _Seen | None:
        """Return the stream as it was last seen; the first time, as it began."""
        seen, reply = self._seen.get(stream), stream.reply
        if seen is not None and seen.reply is reply:
            return seen
        began = stream.decoding_since
        if reply is None or began is None or reply.reads is None:
            return None
        seen = self._seen[stream] = _Seen(reply, min(began, now))
        return seen

    def _confirmed(self, key: Key, looks: list[_Look], now: float) -> float | None:
        """Return the share of the known speed, where the last look was as far off.

        A token more or less in each is no evidence.
        """
        tokens, margin = sum(each.tokens for each in looks), float(len(looks))
        expected = sum(each.expected for each in looks)
        least = sum(each.least for each in looks)
        slow, quick = _SHOWN if all(each.shown for each in looks) else _GUESSED
        slower = tokens + margin < slow * least
        if not slower and tokens - margin <= quick * expected:
            self._far_off.pop(key, None)
            return None
        before = self._far_off.get(key)
        self._far_off[key] = now, slower
        if before is None or before[1] is not slower:
            return None
        if now - before[0] > _IN_A_ROW_SECONDS:
            return None
        if slower and not all(each.exact for each in looks):
            return None  # the next one is
        del self._far_off[key]
        return tokens / (least if slower else expected)

    def _reset(self, streams: Iterable[RunningStream], model: str, now: float) -> None:
        """Have what came until now count no more for the speed of the streams."""
        per_line = self._per_line[model]
        for each in streams:
            seen = self._seen.get(each)
            if seen is not None and each.model == model:
                seen.drifted = Since(now, seen.reply.lines * per_line)

    def ended(
        self, stream: RunningStream, tokens: int, *, complete: bool
    ) -> Since | None:
        """Forget a stream; return from when on it shows the speed of its node.

        tokens, complete: of its answer as the node says, where it came to its end
        """
        seen, reply = self._seen.pop(stream, None), stream.reply
        if complete and tokens and reply is not None and reply.reads:
            self._learn(stream.model, tokens, reply)
        return seen.drifted if seen is not None else None

    def _learn(self, model: str, tokens: int, reply: Counted) -> None:
        """Take how many tokens a line has: one, of most models and texts."""
        self._ends += 1
        known = self._per_line.get(model)
        if known is not None and self._ends % _LEARNED_OF:
            return
        per_line = tokens / max(1, reply.lines)
        known = per_line if known is None else known
        self._per_line[model] = known + _SHARE * (per_line - known)
        self._per_line.move_to_end(model)
        if len(self._per_line) > _MOST_MODELS:
            self._per_line.popitem(last=False)

    def forget(self, key: Key) -> None:
        self._far_off.pop(key, None)


class _Moment(NamedTuple):
    """What a stream is compared with."""

    log: ConcurrencyLog
    curve: ThroughputCurve
    others: Iterable[RunningStream]
    per_line: float
    now: float


def _compare(seen: _Seen, moment: _Moment) -> _Look | None:
    """Compare a stream since it was last seen; None where that shows nothing."""
    log, curve, others, per_line, now = moment
    reads, seconds, since = seen.reply.reads, now - seen.at, seen.at
    if reads is None:
        return None
    steady = log.steady(seconds, now)
    streams = steady[0] if steady else max(1, log.count)
    speed = curve.speed(streams)
    if speed is None or (
        speed * seconds < _LEAST_TOKENS and seconds < _LONGEST_SECONDS
    ):
        return None
    read = log.reading(others, since, now)
    least = speed * (seconds - read)
    shown = curve.known(streams)
    slow = (_SHOWN if shown else _GUESSED)[0]
    tokens, exact = seen.tokens(reads, per_line, slow * least)
    seen.at = now
    if steady is None or log.mixed(since) or read > MOST_READ * seconds:
        return None
    return _Look(tokens, speed * (seconds - STANDS_STILL * read), least, shown, exact)
