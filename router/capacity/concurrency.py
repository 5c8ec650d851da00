"""How many streams a node ran while a reply was made; pure.

Each change of the count leaves a mark with two running integrals, so a mean and
a variance over any recent stretch cost one walk back over the marks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_MARKS = 128
_ROUNDING = 1e-6
_STEADY = 0.2  # variance of k up to which a reply speaks for one k


@dataclass(slots=True)
class Occupancy:
    """One node's count over time."""

    count: int = 0
    _at: float = 0.0
    _area: float = 0.0
    _squares: float = 0.0
    _marks: deque[tuple[float, float, float, int]] = field(
        default_factory=lambda: deque(maxlen=_MARKS)
    )

    def change(self, by: int, now: float) -> None:
        spent = now - self._at
        self._area += self.count * spent
        self._squares += self.count * self.count * spent
        self._at = now
        self.count += by
        self._marks.append((now, self._area, self._squares, self.count))

    def steady(self, seconds: float, now: float) -> int | None:
        """Return the k of the last `seconds`, where it was (nearly) one k."""
        if seconds <= 0:
            return max(1, self.count)
        start = now - seconds
        mark = self._mark_at(start)
        if mark is None:
            return None
        at, area, squares, count = mark
        area += count * (start - at)
        squares += count * count * (start - at)
        spent = now - self._at
        mean = (self._area + self.count * spent - area) / seconds
        square = (self._squares + self.count**2 * spent - squares) / seconds
        if square - mean * mean > _STEADY:
            return None
        return max(1, round(mean))

    def _mark_at(self, start: float) -> tuple[float, float, float, int] | None:
        for mark in reversed(self._marks):
            if mark[0] <= start + _ROUNDING:
                return mark
        return None
