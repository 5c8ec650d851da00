"""How many streams a node ran, and how long it read prompts, while a reply was made.

Each change of the count leaves a mark with two running integrals, so a mean and
a variance over any recent stretch cost one walk back over the marks. While a prompt
is read, the streams beside it stand nearly still. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

_MARKS = 128
_ROUNDING = 1e-6
_STEADY = 0.2  # variance of k up to which a reply speaks for one k
_SHARE = 0.2  # of a new reading of how long a prompt is read
# Of the time in which a prompt is read, streams beside it stand still for so much.
STANDS_STILL = 0.9
# Where prompts are read for more of the time, what is left of it shows nothing.
MOST_READ = 0.7
_AS_LONG = 2.0  # the usual time, that a reply which is no stream is taken to read


class Phases(Protocol):
    """What is read of a lease: a stream reads until its first line comes."""

    @property
    def taken_at(self) -> float: ...
    @property
    def streams(self) -> bool: ...
    @property
    def decoding_since(self) -> float | None: ...


@dataclass(slots=True)
class ConcurrencyLog:
    """One node's count over time.

    models:   how many streams of each model run
    mixed_at: when two models were last seen together
    """

    count: int = 0
    models: dict[str, int] = field(default_factory=dict)
    mixed_at: float = float("-inf")
    _at: float = 0.0
    _area: float = 0.0
    _squares: float = 0.0
    _marks: deque[tuple[float, float, float, int]] = field(
        default_factory=lambda: deque(maxlen=_MARKS)
    )
    _reads: deque[tuple[float, float, float]] = field(
        default_factory=lambda: deque(maxlen=_MARKS)
    )
    _usual: float | None = None  # seconds in which a prompt is read

    def change(self, by: int, now: float, model: str = "") -> None:
        spent = now - self._at
        self._area += self.count * spent
        self._squares += self.count * self.count * spent
        self._at = now
        self.count += by
        self._marks.append((now, self._area, self._squares, self.count))
        if len(self.models) > 1:
            self.mixed_at = now
        left = self.models.get(model, 0) + by
        if left:
            self.models[model] = left
        else:
            del self.models[model]

    def mixed(self, since: float) -> bool:
        """Say whether streams of two models ran together at any time since."""
        return len(self.models) > 1 or self.mixed_at >= since

    def steady(self, seconds: float, now: float) -> tuple[int, float] | None:
        """Return the k of the last `seconds`, where it was (nearly) one k.

        With it, 0 to 1, how much it was that k alone.
        """
        if seconds <= 0:
            return max(1, self.count), 1.0
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
        variance = square - mean * mean
        if variance > _STEADY:
            return None
        return max(1, round(mean)), 1 - max(0.0, variance) / _STEADY

    def _mark_at(self, start: float) -> tuple[float, float, float, int] | None:
        for mark in reversed(self._marks):
            if mark[0] <= start + _ROUNDING:
                return mark
        return None

    def read(
        self, lease: Phases, began: float | None, seconds: float, now: float
    ) -> None:
        """Take note of how long the prompt of a request that ended was read.

        began, seconds: of its answer, and of its prompt; None and 0 if untold
        """
        until = self._until(lease, now) if began is None else began
        start = lease.taken_at
        if began is not None:
            if seconds > 0:
                start = max(start, began - seconds)
            usual = self._usual if self._usual is not None else began - start
            self._usual = usual + _SHARE * (began - start - usual)
        if until > start:
            self._reads.append((now, start, until))

    def reading(self, running: Iterable[Phases], since: float, now: float) -> float:
        """Return how long prompts of ours were read since, beside one that ended."""
        spans = [(lease.taken_at, self._until(lease, now)) for lease in running]
        for ended, start, until in reversed(self._reads):
            if ended <= since:
                break
            if until > since:
                spans.append((start, until))
        read, last = 0.0, since
        for start, until in sorted(spans):
            if until > last:
                read += until - max(start, last)
                last = until
        return read

    def _until(self, lease: Phases, now: float) -> float:
        if lease.decoding_since is not None:
            return min(lease.decoding_since, now)
        if lease.streams or self._usual is None:
            return now
        return min(now, lease.taken_at + _AS_LONG * self._usual)
