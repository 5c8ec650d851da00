"""Measures a job's throughput over the last minute; pure, bounded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_SECONDS = 60
_ENOUGH_SECONDS = 2.0


@dataclass(slots=True)
class JobThroughput:
    """Items and tokens per second; `began`: monotonic seconds of the first item."""

    began: float | None = None
    _seconds: deque[tuple[int, int, int]] = field(default_factory=deque)

    def count(self, now: float, items: int, tokens: int) -> None:
        if self.began is None:
            self.began = now
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            _, before, spoken = self._seconds.pop()
            items, tokens = items + before, tokens + spoken
        self._seconds.append((second, items, tokens))
        self._forget(second)

    def per_second(self, now: float) -> tuple[float, float] | None:
        """Return items and tokens per second; None in the first seconds."""
        self._forget(int(now))
        if self.began is None or now - self.began < _ENOUGH_SECONDS:
            return None
        span = min(now - self.began, float(_SECONDS))
        items = sum(each[1] for each in self._seconds)
        tokens = sum(each[2] for each in self._seconds)
        return items / span, tokens / span

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - _SECONDS:
            self._seconds.popleft()
