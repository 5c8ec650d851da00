"""Totals that any scraper may rate(): made of samples, or of a counter that wraps.

Pure. Time that no sample speaks for is left out, not filled in.
"""

from __future__ import annotations


class Integral:
    """The sum of value times seconds, each sample standing for the time before it."""

    def __init__(self) -> None:
        self.total = 0.0
        self.observed: dict[str, float] = {}  # seconds by source
        self._until: float | None = None

    @property
    def begun(self) -> bool:
        return self._until is not None

    def begin(self, at: float) -> None:
        """Count from here on, unless it has begun."""
        if self._until is None:
            self._until = at

    def add(self, at: float, value: float, source: str, longest: float) -> None:
        """Let `value` hold for the time up to `at` that is not counted yet.

        longest: seconds that one sample can speak for; what lies before is unknown
        """
        if self._until is None:
            self._until = at
            return
        seconds = at - self._until
        if seconds <= 0:
            return
        self._until = at
        seconds = min(seconds, longest)
        self.total += value * seconds
        self.observed[source] = self.observed.get(source, 0.0) + seconds

    def silent(self, at: float) -> float:
        """Seconds up to `at` that nothing was counted for."""
        return 0.0 if self._until is None else at - self._until


class Times:
    """Seconds that each of some conditions held, looked at in steps."""

    def __init__(self, longest: float = 1.0) -> None:
        self.seconds: dict[str, float] = {}
        self._longest = longest
        self._last: float | None = None

    def add(self, at: float, holding: dict[str, bool]) -> None:
        """Let the conditions of now hold for the time since the last look."""
        step = 0.0 if self._last is None else min(at - self._last, self._longest)
        self._last = at
        for name, holds in holding.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + step * holds


class Unwrapped:
    """A counter that begins anew at some number, made one that does not."""

    def __init__(self) -> None:
        self.total = 0.0
        self._last: float | None = None

    def add(self, value: float, wraps_at: int) -> float:
        """Take in the counter's value; return the total.

        wraps_at: 0 where it does not wrap; a smaller value is then a new counter
        """
        if self._last is None:
            self.total = value
        elif value >= self._last:
            self.total += value - self._last
        else:
            self.total += value + (wraps_at - self._last if wraps_at else 0)
        self._last = value
        return self.total
