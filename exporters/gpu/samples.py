"""The driver's sample buffers: what is new in one, and when it was.

Pure: no driver, no clock. A sample's time stamp is in microseconds of a clock that
the driver does not name, so an offset to ours is learned as samples come.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

REMEMBERED = 64  # spacings, and offsets, that are looked back on


class Sample(NamedTuple):
    """A value, and the driver's time of it in seconds."""

    at: float
    value: float


class Ring:
    """What was taken from one buffer; the caller asks the driver for it."""

    def __init__(self) -> None:
        self.last_seen = 0  # microseconds, as the driver wants it
        self.total = 0
        self.primed = False
        self._spacings: deque[float] = deque(maxlen=REMEMBERED)

    def take(self, found: Iterable[tuple[int, float]]) -> list[Sample]:
        """Return the samples not seen before, in order of time.

        The first look returns none: it holds what was before this watch began, and
        would count a second time after each restart.
        """
        fresh = []
        for stamp, value in sorted(found):
            if stamp <= self.last_seen:
                continue
            if self.last_seen:
                self._spacings.append((stamp - self.last_seen) / 1e6)
            self.last_seen = stamp
            fresh.append(Sample(stamp / 1e6, value))
        if not self.primed:
            self.primed = bool(fresh)
            return []
        self.total += len(fresh)
        return fresh

    def forget(self) -> None:
        """Begin anew, as after the driver's clock was set back."""
        self.last_seen = 0
        self.primed = False

    @property
    def interval(self) -> float | None:
        """Median of the spacings of late, in seconds; None before there are any."""
        return statistics.median(self._spacings) if self._spacings else None


class Changes:
    """A value that is polled: only its changes are samples."""

    def __init__(self) -> None:
        self.total = 0
        self._last: float | None = None
        self._last_at = 0.0
        self._spacings: deque[float] = deque(maxlen=REMEMBERED)

    def take(self, at: float, value: float) -> bool:
        """Return whether the value has changed; `at` in seconds."""
        if value == self._last:
            return False
        if self._last is not None:
            self._spacings.append(at - self._last_at)
        self._last = value
        self._last_at = at
        self.total += 1
        return True

    @property
    def interval(self) -> float | None:
        """Median time between changes, in seconds; None before there are any."""
        return statistics.median(self._spacings) if self._spacings else None


class Offset:
    """How far our clock is ahead of the driver's.

    The newest sample of a look is a little old already, so each look overstates the
    offset; the least of late is the best, and a clock that was set is followed.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, newest: float, now: float) -> None:
        """Take in that a sample of the driver's time `newest` was there at `now`."""
        self._seen.append(now - newest)

    def ours(self, driver: float) -> float:
        """Turn the driver's seconds into ours."""
        return driver + min(self._seen, default=0.0)

    def forget(self) -> None:
        self._seen.clear()
