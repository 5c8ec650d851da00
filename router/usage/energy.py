"""Divides a GPU's energy among the requests that ran on its node; pure.

The power that a GPU draws while idle belongs to no request. At each moment, the streams
on the node share the rest equally. Only the idle power is estimated: all shares
together are what the meter counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

_LEARNED = 0.3  # weight of a new reading of idle power
# A counter that jumps further was reset, or belongs to another GPU.
_MOST_WATTS = 5000.0

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class MeterReading:
    """A GPU's energy counter at a time; seconds and joules."""

    node: str
    card: str
    at: float
    joules: float


@dataclass(frozen=True, slots=True)
class MeterInterval:
    """The energy that a GPU used between two readings."""

    since: float
    until: float
    joules: float

    @property
    def seconds(self) -> float:
        return self.until - self.since


@dataclass(frozen=True, slots=True)
class Split:
    """Joules of an interval: one figure for each stream in order, and the idle part."""

    streams: tuple[float, ...]
    idle: float


def shares(spans: Sequence[Span], since: float, until: float) -> list[float]:
    """Return each stream's share of the time, in seconds.

    At each moment the running streams share equally, so that all shares together are
    the time in which any stream ran.
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
    """Divide a GPU's energy between the streams of its node and idle power."""
    parts = shares(spans, taken.since, taken.until)
    busy = sum(parts)
    if busy <= 0:
        return Split((0.0,) * len(parts), taken.joules)
    idle = min(taken.joules, idle_watts * taken.seconds)
    rest = taken.joules - idle
    return Split(tuple(rest * (part / busy) for part in parts), idle)


class CardMeter:
    """One GPU's energy counter and its idle power.

    idle_watts: learned from intervals without a stream; before the first, the lowest
                power seen
    """

    def __init__(self) -> None:
        self.at = -inf
        self.idle_watts = 0.0
        self._joules = 0.0
        self._least = inf
        self._idle_known = False
        self._was_busy = True

    def read(self, at: float, joules: float) -> MeterInterval | None:
        """Return the energy used since the last reading; None where it is unknown.

        The first reading, and one after a reset of the counter, begin an interval.
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
        """Learn the idle power from an interval; `busy`: with a stream."""
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
