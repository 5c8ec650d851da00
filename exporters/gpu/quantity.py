"""One quantity of a card that the driver samples by itself: power, or utilisation.

Takes what was drained from the driver's buffer, or, where there is none or it has run
dry, what was polled; keeps total, histogram, windows and how well it was observed.
Pure: all times are arguments, on the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from exporters.gpu.histograms import Histogram
from exporters.gpu.integrals import Integral
from exporters.gpu.rows import Row
from exporters.gpu.samples import Changes, Offset, Ring
from exporters.gpu.windows import Windows

RING = "ring_buffer"
SNAPSHOT = "snapshot"

# A buffer that gave nothing for so long has run dry: the card idles.
DRY_SECONDS = 2.5

# A buffer is looked at from its beginning after so long: the driver's clock may have
# been set back, and all its samples seem old.
FORGET_SECONDS = 30.0

# Times the usual spacing that one sample of a buffer may speak for.
REACH = 3
POLL_REACH_SECONDS = 2.0


@dataclass(slots=True)
class Quantity:
    """Samples of one quantity in base units.

    most: a value above it is none; windows are on the wall clock
    """

    name: str
    most: float
    histogram: Histogram | None = None
    windows: Windows | None = None
    ring: Ring = field(default_factory=Ring)
    changes: Changes = field(default_factory=Changes)
    integral: Integral = field(default_factory=Integral)
    offset: Offset = field(default_factory=Offset)
    _heard: float | None = None  # when the buffer last gave something
    _looked_back: float = 0.0
    _polled: bool = False

    def drained(
        self, found: Sequence[tuple[int, float]], now: float, wall: float
    ) -> None:
        """Take in a look at the buffer: microseconds of the driver, and values."""
        if not found and self.ring.primed and self._lost_track(now):
            self.ring.forget()
            self.offset.forget()
        if not found:
            return
        primed = self.ring.primed
        fresh = self.ring.take(found)
        if fresh or not primed:
            self.offset.learn(self.ring.last_seen / 1e6, now)
            self._heard = now
            self.integral.begin(now)
        longest = REACH * (self.ring.interval or 1.0)
        for sample in fresh:
            if not 0 <= sample.value <= self.most:
                continue
            at = self.offset.ours(sample.at)
            self.integral.add(at, sample.value, RING, longest)
            self._note(sample.value, at + wall - now)

    def polled(self, value: float, now: float, wall: float) -> None:
        """Take in a value read at `now`; nothing where the buffer speaks."""
        if self.source(now) == RING:
            return
        self._polled = True
        self.integral.add(now, value, SNAPSHOT, POLL_REACH_SECONDS)
        if self.changes.take(now, value) and self.histogram is not None:
            self.histogram.add(value)
        if self.windows is not None:
            self.windows.add(wall, value)

    def _note(self, value: float, wall: float) -> None:
        if self.histogram is not None:
            self.histogram.add(value)
        if self.windows is not None:
            self.windows.add(wall, value)

    def _lost_track(self, now: float) -> bool:
        since = max(self._heard or 0.0, self._looked_back)
        if now - since < FORGET_SECONDS:
            return False
        self._looked_back = now
        return True

    def source(self, now: float) -> str | None:
        """Return which of the two speaks now; None before either did."""
        if self._heard is not None and now - self._heard < DRY_SECONDS:
            return RING
        return SNAPSHOT if self._polled or self._heard is not None else None

    def rows(self, now: float, wall: float) -> Iterator[Row]:
        """Yield how it was observed, the histogram and the last whole window."""
        source = self.source(now)
        if source is None:
            return
        teller = self.ring if source == RING else self.changes
        labels = {"source": self.name}
        if teller.interval is not None:
            yield Row("inferops_gpu_sample_interval_seconds", teller.interval, labels)
        taken = self.ring.total + self.changes.total
        yield Row("inferops_gpu_samples_total", taken, labels)
        if self.histogram is not None:
            yield from self.histogram.rows()
        if self.windows is not None:
            yield from self.windows.rows(wall)
