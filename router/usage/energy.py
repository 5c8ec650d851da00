"""Whose a card's energy is: each meter interval is shared by the streams in it; pure.

The power that a card draws without any request is nobody's. What it draws beyond is
shared at each moment by the streams that run on its node, in like parts. Nothing is
estimated but the idle power: what all parts come to is what the meter has counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

_LEARNED = 0.3  # weight of a new reading of idle power
# A counter that jumps further was set anew, or is another card's.
_MOST_WATTS = 5000.0

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class MeterReading:
    """A card's counter of energy, as it was at a time; seconds and joules."""

    node: str
    card: str
    at: float
    joules: float


@dataclass(frozen=True, slots=True)
class MeterInterval:
    """What a card took between two readings."""

    since: float
    until: float
    joules: float

    @property
    def seconds(self) -> float:
        return self.until - self.since


@dataclass(frozen=True, slots=True)
class Split:
    """An interval's joules: the streams', in their order, and what is nobody's."""

    streams: tuple[float, ...]
    idle: float


def shares(spans: Sequence[Span], since: float, until: float) -> list[float]:
    """Return each stream's part of the time, in seconds.

    At each moment the streams that run share it in like parts, so that all parts
    together are the time in which any ran.
    """
    edges: list[tuple[float, int, int]] = []
    for place, (began, ended) in enumerate(spans):
        if max(began, since) < min(ended, until):
            edges.append((max(began, since), 1, place))
            edges.append((min(ended, until), 0, place))
    parts = [0.0] * len(spans)
    running: set[int] = set()
    before = since
    # Time that passes with k streams adds 1/k of itself to each: one sum for all.
    each = 0.0
    entered: dict[int, float] = {}
    for at, begins, place in sorted(edges):
        if running:
            each += (at - before) / len(running)
        before = at
        if begins:
            running.add(place)
            entered[place] = each
        else:
            running.discard(place)
            parts[place] = each - entered[place]
    return parts


def split(taken: MeterInterval, spans: Sequence[Span], idle_watts: float) -> Split:
    """Share what a card took between the streams of its node, and idle power."""
    parts = shares(spans, taken.since, taken.until)
    busy = sum(parts)
    if busy <= 0:
        return Split((0.0,) * len(parts), taken.joules)
    idle = min(taken.joules, idle_watts * taken.seconds)
    rest = taken.joules - idle
    return Split(tuple(rest * (part / busy) for part in parts), idle)


class CardMeter:
    """One card's counter, and what the card draws while nothing runs.

    idle_watts: as learned from intervals without any stream; until there was one, the
                least that was seen
    """

    def __init__(self) -> None:
        self.at = -inf
        self.idle_watts = 0.0
        self._joules = 0.0
        self._least = inf
        self._idle_known = False
        self._was_busy = True

    def read(self, at: float, joules: float) -> MeterInterval | None:
        """Return what was taken since the last reading; None where nobody can tell.

        The first reading, and one after the counter was set anew, begin an interval.
        """
        if at <= self.at:
            return None
        taken = MeterInterval(self.at, at, joules - self._joules)
        self.at, self._joules = at, joules
        if taken.since == -inf:
            return None
        if not 0 <= taken.joules <= _MOST_WATTS * taken.seconds:
            return None
        return taken

    def learn(self, taken: MeterInterval, *, busy: bool) -> None:
        """Take note of how much the card drew, with a stream or without."""
        watts = taken.joules / taken.seconds
        self._least = min(self._least, watts)
        # Right after a stream a card draws more for a while.
        if not (busy or self._was_busy):
            known = self.idle_watts if self._idle_known else watts
            self.idle_watts = known + _LEARNED * (watts - known)
            self._idle_known = True
        self._was_busy = busy
        if not self._idle_known:
            self.idle_watts = self._least
        if busy:
            self.idle_watts = min(self.idle_watts, watts)
