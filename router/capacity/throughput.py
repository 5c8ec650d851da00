"""How fast a node runs a model with k streams at once, learned from replies; pure.

What slows a node as a whole is kept apart as its pace: a node that throttles is
slower at every k, and must not look as if only this k were slow. What a k was not
seen enough for is taken from the next one and the S(k) of the fleet (`scaling`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

ENOUGH = 6.0  # replies at one k before anything is concluded from it

# S(k) that is believed before anything was seen: a real Ollama 0.17.4 on H200s
# (2026-11-29, three machines). Two streams hardly gain, four nearly double.
_TOTALS = (1.0, 1.14, 1.54, 1.9, 2.25, 2.58, 2.7, 2.75)

_KEPT = 0.97  # of what was learned, at each new reply at the same k
_HALF_LIFE_SECONDS = 1800.0
_NEAR = (0.8, 1.25)  # readings within teach slowly: that much is noise
_PLAUSIBLE = (0.7, 1.4)  # readings outside tell of the node, not of this k
_SLOW_SHARE = 0.1
_QUICK_SHARE = 0.4
_LEAST = 0.2  # replies that are any speed at all
_SHARED = 2.0  # replies that what the shared S(k) says of a k is worth
# A pace this far below the usual one: the node has slowed down, and may recover.
_SLOWED = 0.7
_USUAL_SHARE = 0.05  # of the pace, at each reply of a node that did not slow down
_MOST_TIMES = 4.0  # that one reply or look can raise the pace
_LEAST_TIMES = 1 / 16
_TRY_AGAIN_SECONDS = 30.0
_TRY_AGAIN_SHARE = 1 / 60  # of the time for which it is slow already
_ANYBODY = 1.5  # times this pause, until no short answer is waited for any more


def expected_total(streams: int) -> float:
    """Return S(k) as it is believed of a node that showed nothing."""
    if streams <= len(_TOTALS):
        return _TOTALS[streams - 1]
    return float(_TOTALS[-1] * (streams / len(_TOTALS)) ** 0.5)


def expected_share(streams: int) -> float:
    """Return the speed of each of so many streams over that of one alone."""
    return expected_total(streams) / streams


def expected_ratio(streams: int, known: int) -> float:
    return expected_total(streams) / expected_total(known)


class Try(Enum):
    """Who may see whether a node that slowed down has recovered."""

    SHORT = "a request of a short answer"
    ANYBODY = "any request"


@dataclass(slots=True)
class Point:
    """Replies seen at one k: weight (a count that fades) and mean."""

    weight: float = 0.0
    mean: float = 0.0
    at: float = 0.0

    def faded(self, now: float) -> float:
        """Return the weight with its age taken off."""
        return float(self.weight * 0.5 ** ((now - self.at) / _HALF_LIFE_SECONDS))

    def add(self, value: float, now: float, telling: float = 1.0) -> None:
        # What was enough stays enough, and is soon outweighed.
        before = max(min(self.weight, ENOUGH), self.faded(now)) * _KEPT**telling
        self.weight = before + telling
        self.mean += (value - self.mean) * telling / self.weight
        self.at = now


@dataclass(slots=True)
class ThroughputCurve:
    """One node and model: speed of each of k streams is `pace * points[k].mean`.

    ratio: S(k) over S(known), as the fleet shows it
    usual: the pace before the node slowed down, which it did at `slowed_at`
    """

    pace: float = 1.0
    points: dict[int, Point] = field(default_factory=dict)
    ratio: Callable[[int, int], float] = field(default=expected_ratio, compare=False)
    usual: float = 1.0
    slowed_at: float | None = field(default=None, compare=False)
    _shown_at: float = field(default=0.0, compare=False)  # by the newest reply or look
    _streams: int = field(default=0, compare=False)  # of the newest reply
    _fresh: float = field(default=0.0, compare=False)  # replies since it came to them
    # Asked for each node of each decision, changed by each reply.
    _speeds: dict[int, float] = field(default_factory=dict, compare=False)

    def known(self, streams: int) -> bool:
        point = self.points.get(streams)
        return point is not None and point.weight >= ENOUGH

    def shown(self, streams: int) -> float | None:
        """Return the speed that so many streams showed; None where too few did."""
        return self.pace * self.points[streams].mean if self.known(streams) else None

    def learn(
        self, streams: int, speed: float, now: float, telling: float = 1.0
    ) -> None:
        """Take one reply's tokens/s among `streams`, which counts for `telling`."""
        point = self._sample(streams, telling)
        if point.weight < ENOUGH:
            point.add(speed / self.pace, now, telling)
            return
        ratio = self._pace(point, speed, telling, now)
        # What changes as the node comes to this k may as well be this k's.
        if _PLAUSIBLE[0] < ratio < _PLAUSIBLE[1] or self._fresh <= ENOUGH:
            point.add(speed / self.pace, now, telling)

    def keep_pace(self, streams: int, speed: float, now: float, telling: float) -> None:
        """Take a reply whose k is in doubt: it tells of the node's pace at most."""
        if self.known(streams):
            self._streams = 0
            self._pace(self.points[streams], speed, telling, now)

    def drift(self, share: float, now: float) -> None:
        """Take a share of the known speed at which streams come now, at every k."""
        self.pace *= max(_LEAST_TIMES, min(share, _MOST_TIMES))
        self._settle(now)

    def try_again(self, now: float) -> Try | None:
        """Say whether it is time to see whether a node that slowed has recovered."""
        if self.slowed_at is None:
            return None
        pause = max(_TRY_AGAIN_SECONDS, _TRY_AGAIN_SHARE * (now - self.slowed_at))
        passed = now - self._shown_at
        if passed < pause:
            return None
        return Try.SHORT if passed < _ANYBODY * pause else Try.ANYBODY

    def _settle(self, now: float) -> None:
        """Take note of a new pace."""
        self._speeds.clear()
        self._shown_at = now
        if self.pace < _SLOWED * self.usual:
            self.slowed_at = now if self.slowed_at is None else self.slowed_at
            return
        self.slowed_at = None
        self.usual += _USUAL_SHARE * (self.pace - self.usual)

    def _sample(self, streams: int, telling: float) -> Point:
        self._speeds.clear()
        point = self.points.setdefault(streams, Point())
        if streams != self._streams:
            self._streams, self._fresh = streams, 0.0
        self._fresh += telling
        return point

    def _pace(self, point: Point, speed: float, telling: float, now: float) -> float:
        ratio = speed / (self.pace * point.mean)
        near = _NEAR[0] < ratio < _NEAR[1]
        share = _SLOW_SHARE if near else _QUICK_SHARE
        if self.slowed_at is not None and ratio > _PLAUSIBLE[1]:
            share = 1.0  # nothing but a recovery makes a reply quicker
        self.pace *= 1 + share * telling * (min(ratio, _MOST_TIMES) - 1)
        self._settle(now)
        return ratio

    def usual_speed(self, streams: int) -> float | None:
        """Return the speed that it had before it slowed down."""
        speed = self.speed(streams)
        return None if speed is None else speed * self.usual / self.pace

    def speed(self, streams: int) -> float | None:
        """Return tokens/s of one of `streams`; None if next to nothing was seen."""
        speed = self._speeds.get(streams)
        if speed is None and sum(p.weight for p in self.points.values()) >= _LEAST:
            speed = self._speeds[streams] = self._estimate(streams)
        return speed

    def _estimate(self, streams: int) -> float:
        own = self.points.get(streams)
        others = [k for k in self.points if k != streams]
        if not others:
            assert own is not None  # noqa: S101 - some k was seen
            return self.pace * own.mean
        weights = self.points
        nearest = min(
            others, key=lambda k: (abs(k - streams) - min(3.0, weights[k].weight), k)
        )
        shared = self.points[nearest].mean * self.ratio(streams, nearest)
        shared *= nearest / streams
        if own is None:
            return self.pace * shared
        other = min(_SHARED, weights[nearest].weight)
        both = own.weight * own.mean + other * shared
        return self.pace * both / (own.weight + other)

    def totals(self) -> dict[int, float]:
        """Return the total tokens/s for each k that is known."""
        return {
            k: round(k * self.pace * p.mean, 2)
            for k, p in sorted(self.points.items())
            if p.weight >= ENOUGH
        }
