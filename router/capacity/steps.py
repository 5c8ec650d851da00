"""What comparisons say of the step from S(k) to S(k + 1); pure.

Two neighbouring k of one node, compared within minutes, say how the total speed goes
from one to the next whatever that node's speed is. Evidence is kept in levels: a
node's own counts most, then that of its kind, then the fleet's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt

from router.capacity.throughput import expected_total

_PRIOR = 0.5  # visits that the guess is worth
_SHARED = 8.0  # visits that those to nodes all alike are worth
_COMPARED = 2.0  # visits before anything is concluded
_MOST = 12.0
_KNOWN = 8.0  # visits after which what is still not clear does not matter
_LEAST_SPREAD = 0.1
_ALIKE = 0.15  # nodes whose comparisons are spread so far may be one sort
_SURE = 2.2  # standard errors: many comparisons are made, few may be wrong
_CLEAR = 2.0  # the same for more: nothing is given up for it
_FAR = 3.0  # deviations, from which the node may not be what it was
_MARGIN = 0.03  # a difference below this is not worth a slot
_LEAP = log(1.1)  # a larger k beyond a dip must bring this much more in total
_HALF_LIFE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One reply at k or k + 1 beside those at the other.

    value:  log S(k + 1) / S(k)
    weight: what it counts for: all of one visit to a k are worth 1 at most, since they
            share the moment and what they are compared with
    own:    deviation from the mean of the level below, where there is one
    """

    k: int
    value: float
    weight: float
    at: float
    own: float | None = None


@dataclass(slots=True)
class Step:
    """Comparisons of S(k + 1) with S(k), as logarithms of the ratio.

    count:   of visits to either
    squares: mean square of the deviations from the mean
    within:  the same from the mean of the node, or kind, that each was made on
    """

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    at: float = 0.0
    within: float = 0.0

    def add(self, seen: Comparison) -> None:
        self.count = min(_MOST, self.count + seen.weight)
        before, part = seen.value - self.mean, seen.weight / self.count
        self.mean += part * before
        self.squares += part * (before * (seen.value - self.mean) - self.squares)
        if seen.own is not None:
            self.within += part * (seen.own * seen.own - self.within)
        self.at = seen.at

    def faded(self, now: float | None) -> float:
        if now is None:
            return self.count
        return float(self.count * 0.5 ** ((now - self.at) / _HALF_LIFE_SECONDS))

    @property
    def shown(self) -> bool:
        """Whether there is enough to conclude anything."""
        return self.count >= _COMPARED

    @property
    def falls(self) -> bool:
        """Whether one stream more clearly brings less."""
        return self.shown and self.mean < -_MARGIN - _SURE * self._doubt

    @property
    def clear(self) -> bool:
        """Whether to look again is not worth it."""
        if not self.shown:
            return False
        rises = self.mean > _CLEAR * self._doubt
        return rises or self.falls or self.count >= _KNOWN

    @property
    def worth(self) -> float:
        """Return the comparisons of one's own that those of others are worth.

        The more alike nodes are, the more; nodes of two sorts show nothing of a third.
        """
        noise = max(_ALIKE**2, self.within)
        between = max(0.0, self.squares - noise)
        return _SHARED if between * _SHARED <= noise else noise / between

    def surprised(self, value: float) -> bool:
        """Say whether a comparison is far from all that were seen."""
        return self.count >= _COMPARED and abs(value - self.mean) > _FAR * self._spread

    @property
    def _spread(self) -> float:
        return max(_LEAST_SPREAD, sqrt(self.squares))

    @property
    def _doubt(self) -> float:
        """Standard error of the mean."""
        return self._spread / sqrt(self.count)


_NOTHING = Step()


class Steps:
    """What was compared on a node, of a kind, or of the fleet (`parent` None)."""

    __slots__ = ("_own", "compared", "parent")

    def __init__(self, parent: Steps | None = None) -> None:
        self.parent = parent
        self._own: dict[int, Step] = {}
        # All that is noted here is noted above.
        self.compared: Collection[int] = parent.compared if parent else self._own

    def add(self, seen: Comparison) -> bool:
        """Take note of a comparison, here and above; say if a verdict turned."""
        step = self._own.setdefault(seen.k, Step())
        falls = step.falls
        own = seen.value - step.mean if step.count else None
        step.add(seen)
        turned = step.falls != falls
        if self.parent:
            turned |= self.parent.add(replace(seen, own=own))
        return turned

    def seen(self, k: int, now: float | None = None) -> Step:
        """Return the evidence: what is its own, and more of what others showed.

        With `now`, what was learned long ago counts for less.
        """
        own = self._own.get(k, _NOTHING)
        if self.parent is None:
            return own if now is None else replace(own, count=own.faded(now))
        shared, count = self.parent.seen(k, now), own.faded(now)
        others = shared.count - count
        if others <= 0:
            return own if now is None else replace(own, count=count)
        others = min(shared.worth, others)
        total = count + others
        mean = (count * own.mean + others * shared.mean) / total
        squares = (count * own.squares + others * shared.squares) / total
        within = (count * own.within + others * shared.within) / total
        return Step(total, mean, squares, within=within)

    def ratio(self, k: int, known: int) -> float:
        """Return S(k) over S(known)."""
        low, high = sorted((k, known))
        way = sum(self._value(each) for each in range(low, high))
        return exp(way if k > known else -way)

    def best(self, ceiling: int, now: float | None = None) -> int:
        """Return the k from which one more stream lowers the total.

        Nothing known against it is the ceiling: the cap is an exception that must be
        proved. Beyond it only what brings clearly more counts.
        """
        total, cap = 0.0, None
        for k in range(1, ceiling):
            if cap is not None:
                total += self._value(k)
                if total > _LEAP:
                    cap = None
            elif k in self.compared and self.seen(k, now).falls:
                cap, total = k, self._value(k)
        return ceiling if cap is None else cap

    def _value(self, k: int) -> float:
        """Return the best guess of log S(k + 1) / S(k)."""
        seen, guess = self.seen(k), log(expected_total(k + 1) / expected_total(k))
        return (_PRIOR * guess + seen.count * seen.mean) / (_PRIOR + seen.count)

    def kept(self, now: float) -> list[list[float]]:
        """Return the steps as numbers, with ages for times."""
        return [
            [k, s.count, s.mean, s.squares, s.within, now - s.at]
            for k, s in self._own.items()
        ]

    def recall(self, kept: Iterable[Sequence[float]], now: float) -> None:
        for k, count, mean, squares, within, age in kept:
            step = Step(float(count), float(mean), float(squares), now - float(age))
            step.within = float(within)
            self._own[int(k)] = step
