"""How fast a node runs a model with k streams at once, learned from replies; pure.

On a real Ollama the total of k streams is neither a constant nor monotone in k
(1, 1.21, 1.54, 1.24 for one to four streams on an H200), so each k is learned by
itself. What slows a node as a whole is kept apart as its pace: a node that
throttles is slower at every k, and must not look as if only this k were slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import hypot

ENOUGH = 6.0  # replies at one k before anything is concluded from it
# Times that a node came to a k from another. Replies of one visit share the state
# that the node was in: only a second visit tells the k from the moment.
_VISITS = 2
# A stream beside k others on a real Ollama runs at about 1 / (1 + 0.67 k) of its
# speed: what is believed of a k that was never seen.
SHARE_COST = 0.67

_KEPT = 0.97  # of what was learned, at each new reply at the same k
_HALF_LIFE_SECONDS = 1800.0
_LEAST_SPREAD = 0.05  # replies differ by this much, however alike the first few were
_SURE = 3.0  # standard errors: many comparisons are made, few may be wrong
_MARGIN = 0.03  # a difference below this is not worth a slot
_WORTH_A_LEAP = 1.1  # a larger k beyond a dip must bring this much more in total
_NEAR = (0.8, 1.25)  # readings within teach slowly: that much is noise
_PLAUSIBLE = (0.7, 1.4)  # readings outside tell of the node, not of this k
_SLOW_SHARE = 0.1
_QUICK_SHARE = 0.4


@dataclass(slots=True)
class Point:
    """Replies seen at one k: weight (a count that fades), mean and variance.

    visits: how many times the node came to this k from another
    """

    weight: float = 0.0
    mean: float = 0.0
    variance: float = 0.0
    at: float = 0.0
    visits: int = 0

    def faded(self, now: float) -> float:
        """Return the weight with its age taken off."""
        return float(self.weight * 0.5 ** ((now - self.at) / _HALF_LIFE_SECONDS))

    def add(self, value: float, now: float, telling: float = 1.0) -> None:
        # What was enough stays enough, and is soon outweighed: what is old must not
        # lift a cap while people wait.
        before = max(min(self.weight, ENOUGH), self.faded(now)) * _KEPT**telling
        self.weight = before + telling
        delta, part = value - self.mean, telling / self.weight
        self.mean += delta * part
        share = before / self.weight
        self.variance = share * (self.variance + delta * delta * part)
        self.at = now

    @property
    def error(self) -> float:
        """Standard error of the mean, as a share of it."""
        spread = max(_LEAST_SPREAD, self.variance**0.5 / self.mean)
        return float(spread / self.weight**0.5)


@dataclass(slots=True)
class Curve:
    """One node and model: speed of each of k streams is `pace * points[k].mean`."""

    pace: float = 1.0
    points: dict[int, Point] = field(default_factory=dict)
    _streams: int = field(default=0, compare=False)  # of the newest reply
    _fresh: float = field(default=0.0, compare=False)  # replies since it came to them
    # Asked for each node of each decision, changed by each reply.
    _speeds: dict[int, float] = field(default_factory=dict, compare=False)

    def known(self, streams: int) -> bool:
        point = self.points.get(streams)
        return point is not None and point.weight >= ENOUGH

    def learn(
        self, streams: int, speed: float, now: float, telling: float = 1.0
    ) -> float | None:
        """Take one reply's tokens/s among `streams`.

        telling: what the reply counts for, 0 to 1
        Returns its share of what was expected; None while nothing was known.
        """
        point = self._visit(streams, telling)
        if point.weight < ENOUGH:
            point.add(speed / self.pace, now, telling)
            return None
        ratio = self._pace(point, speed, telling)
        # What changes as the node comes to this k may as well be this k's.
        if _PLAUSIBLE[0] < ratio < _PLAUSIBLE[1] or self._fresh <= ENOUGH:
            point.add(speed / self.pace, now, telling)
        return ratio

    def keep_pace(self, streams: int, speed: float, telling: float) -> float | None:
        """Take a reply whose k is in doubt: it tells of the node's pace at most."""
        point = self.points.get(streams)
        if point is None or point.weight < ENOUGH:
            return None
        self._streams = 0
        self._speeds.clear()
        return self._pace(point, speed, telling)

    def _visit(self, streams: int, telling: float) -> Point:
        self._speeds.clear()
        point = self.points.setdefault(streams, Point())
        if streams != self._streams:
            self._streams, self._fresh = streams, 0.0
            point.visits += 1
        self._fresh += telling
        return point

    def _pace(self, point: Point, speed: float, telling: float) -> float:
        ratio = speed / (self.pace * point.mean)
        near = _NEAR[0] < ratio < _NEAR[1]
        share = telling * (_SLOW_SHARE if near else _QUICK_SHARE)
        self.pace *= 1 + share * (min(ratio, 4) - 1)
        return ratio

    def speed(self, streams: int) -> float | None:
        """Return tokens/s of one of `streams`; None if nothing was ever seen."""
        speed = self._speeds.get(streams)
        if speed is None and self.points:
            speed = self._speeds[streams] = self._estimate(streams)
        return speed

    def _estimate(self, streams: int) -> float:
        nearest = min(self.points, key=lambda k: (abs(k - streams), k))
        share = (1 + SHARE_COST * (nearest - 1)) / (1 + SHARE_COST * (streams - 1))
        return self.pace * self.points[nearest].mean * share

    def totals(self) -> dict[int, float]:
        """Return the total tokens/s for each k that is known."""
        return {
            k: round(k * self.pace * p.mean, 2)
            for k, p in sorted(self.points.items())
            if p.weight >= ENOUGH
        }

    def best(self, ceiling: int, now: float | None = None) -> int:
        """Return the k from which one more stream lowers the total.

        Nothing known against it is the ceiling: the cap is an exception that
        must be proved. With `now`, what was learned long ago counts for less.
        """
        peak = dip = None
        for streams, point in self._evidence(ceiling, now):
            if peak is None or dip is None:
                if peak and _clearly_lower((streams, point), peak):
                    dip = streams
                elif peak is None or _total(streams, point) > _total(*peak):
                    peak = streams, point
            elif _total(streams, point) > _WORTH_A_LEAP * _total(*peak):
                peak, dip = (streams, point), None
        return ceiling if dip is None else dip - 1

    def _evidence(self, ceiling: int, now: float | None) -> Iterator[tuple[int, Point]]:
        for streams in sorted(self.points):
            point = self.points[streams]
            weight = point.weight if now is None else point.faded(now)
            if streams <= ceiling and weight >= ENOUGH and point.visits >= _VISITS:
                yield streams, point

    def untried_below(self, cap: int) -> int | None:
        """Name the nearest k below the cap that should be looked at (again)."""
        for streams in range(cap - 1, (cap - 1) // 2, -1):
            if not self.known(streams) or self.promising(streams, cap):
                return streams
        return None

    def promising(self, streams: int, cap: int) -> bool:
        """Say whether fewer streams seemed better on one visit: no proof yet."""
        point, other = self.points.get(streams), self.points.get(cap)
        if point is None or other is None or not self.known(streams):
            return False
        return min(point.visits, other.visits) < _VISITS and _clearly_lower(
            (cap, other), (streams, point), sure=1.0
        )


def _total(streams: int, point: Point) -> float:
    return streams * point.mean


def _clearly_lower(
    one: tuple[int, Point], other: tuple[int, Point], sure: float = _SURE
) -> bool:
    doubt = sure * hypot(one[1].error, other[1].error)
    return _total(*one) < _total(*other) * (1 - _MARGIN - doubt)
