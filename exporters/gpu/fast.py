"""The fast sampler of one card: instant values at each tick, buffers drained.

Called from one thread; `rows` from any. No call of the driver is made under the
lock, so a driver that hangs holds up nobody who reads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exporters.gpu.histograms import Histogram
from exporters.gpu.integrals import Times
from exporters.gpu.probes import ABSENT_SECONDS, Probes, Troubles
from exporters.gpu.quantity import Quantity
from exporters.gpu.readings import (
    CLOCK_EVENTS_CALL,
    FAST,
    MEMORY_USED,
    MEMORY_UTILIZATION,
    POWER,
    POWER_INSTANT,
    SM_CLOCK,
    UTILIZATION,
)
from exporters.gpu.rows import Row
from exporters.gpu.windows import Windows, window_rows
from exporters.nvml_library import (
    SAMPLES_MEMORY_UTILIZATION,
    SAMPLES_POWER,
    SAMPLES_UTILIZATION,
    Handle,
    Meaning,
    Nvml,
    NvmlError,
    is_dry,
    meaning,
    samples,
)

# A card that answers no call for so long is given up until the library is reopened:
# only that mends some of them.
SILENT_SECONDS = 5.0

UTILIZATION_BOUNDS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
POWER_BOUNDS = (
    *(25, 50, 75, 100, 150, 200, 250, 300, 350, 400, 450, 500),
    *(600, 700, 800, 1000, 1200),
)


@dataclass(slots=True)
class _Buffer:
    """One of the driver's buffers, and what becomes of its samples."""

    kind: int
    period: float  # seconds between two looks
    factor: float  # to base units
    quantity: Quantity
    due: float = 0.0

    @property
    def call(self) -> str:
        return f"nvmlDeviceGetSamples {self.kind}"


class Fast:
    """What one card's fast sampler gathers."""

    def __init__(
        self,
        nvml: Nvml,
        handle: Handle,
        troubles: Troubles,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        window_seconds: float,
    ) -> None:
        self._nvml = nvml
        self._handle = handle
        self._troubles = troubles
        self._clock = clock
        self._wall = wall
        self._window_seconds = window_seconds
        self._lock = threading.Lock()
        self._probes = Probes(nvml, handle, FAST, troubles)
        self._answered = clock()
        self._events = Times()
        self._clock_windows = Windows(
            "inferops_gpu_sm_clock_window_{}_hertz", window_seconds
        )
        self._memory_windows = Windows(
            "inferops_gpu_memory_used_window_{}_bytes", window_seconds
        )
        self.power = Quantity(
            "power",
            1e5,
            Histogram("inferops_gpu_power_sample_watts", POWER_BOUNDS),
            Windows("inferops_gpu_power_window_{}_watts", window_seconds),
        )
        self.utilization = Quantity(
            "utilization",
            1,
            Histogram("inferops_gpu_utilization_sample_ratio", UTILIZATION_BOUNDS),
            Windows("inferops_gpu_utilization_window_{}_ratio", window_seconds),
        )
        self.memory_utilization = Quantity("memory_utilization", 1)
        self._buffers = (
            _Buffer(SAMPLES_POWER, 0.5, 1e-3, self.power),
            _Buffer(SAMPLES_UTILIZATION, 1.0, 1e-2, self.utilization),
            _Buffer(SAMPLES_MEMORY_UTILIZATION, 2.0, 1e-2, self.memory_utilization),
        )

    @property
    def answers(self) -> bool:
        """Whether the card has any reading at present."""
        return self._probes.answers

    def step(self) -> None:
        """Tick once; raises NvmlError where the card or the library is gone."""
        now = self._clock()
        self._probes.step(now)
        self._give_up(now)
        due = [each for each in self._buffers if now >= each.due]
        drained = [(each.quantity, self._drain(each, now)) for each in due]
        with self._lock:
            # What was just read is as old as the driver took to answer.
            now, wall = self._clock(), self._wall()
            for quantity, found in drained:
                quantity.drained(found, now, wall)
            self._take_polled(now, wall)
            self._take_events(now)

    def _give_up(self, now: float) -> None:
        """Raise what the card's calls fail with, when all have for long enough."""
        if self.answers:
            self._answered = now
        elif self._probes.refusal and now - self._answered >= SILENT_SECONDS:
            raise self._probes.refusal

    def _drain(self, buffer: _Buffer, now: float) -> list[tuple[int, float]]:
        buffer.due = now + buffer.period
        last_seen = buffer.quantity.ring.last_seen
        try:
            found = samples(self._nvml, self._handle, buffer.kind, last_seen)
        except NvmlError as error:
            self._troubles.note(buffer.call, error)
            if meaning(error) is Meaning.ABSENT and not is_dry(error):
                buffer.due = now + ABSENT_SECONDS
            return []
        self._troubles.over(buffer.call)
        return [(stamp, value * buffer.factor) for stamp, value in found]

    def _take_polled(self, now: float, wall: float) -> None:
        latest = self._probes.latest
        watts = latest(POWER_INSTANT)
        self._poll(self.power, latest(POWER) if watts is None else watts, now, wall)
        self._poll(self.utilization, latest(UTILIZATION), now, wall)
        self._poll(self.memory_utilization, latest(MEMORY_UTILIZATION), now, wall)
        hertz, used = latest(*SM_CLOCK), latest(MEMORY_USED)
        if hertz is not None:
            self._clock_windows.add(wall, hertz)
        if used is not None:
            self._memory_windows.add(wall, used)

    @staticmethod
    def _poll(quantity: Quantity, value: float | None, now: float, wall: float) -> None:
        if value is not None:
            quantity.polled(value, now, wall)

    def _take_events(self, now: float) -> None:
        rows = self._probes.of(CLOCK_EVENTS_CALL)
        self._events.add(now, {row.labels["reason"]: bool(row.value) for row in rows})

    def rows(self) -> Iterator[Row]:
        """Yield all that the fast sampler knows now."""
        yield from self._probes.rows()
        with self._lock:
            yield from tuple(self._totals())

    def _totals(self) -> Iterator[Row]:
        now, wall = self._clock(), self._wall()
        for reason, seconds in self._events.seconds.items():
            yield Row(
                "inferops_gpu_clock_event_seconds_total", seconds, {"reason": reason}
            )
        for quantity in (self.power, self.utilization, self.memory_utilization):
            yield from quantity.rows(now, wall)
        yield from self._clock_windows.rows(wall)
        yield from self._memory_windows.rows(wall)
        yield from window_rows(wall, self._window_seconds)
        busy, memory = self.utilization.integral, self.memory_utilization.integral
        if busy.begun:
            yield Row("inferops_gpu_busy_seconds_total", busy.total)
        if memory.begun:
            yield Row("inferops_gpu_memory_busy_seconds_total", memory.total)
        for source, seconds in busy.observed.items():
            yield Row(
                "inferops_gpu_observed_seconds_total", seconds, {"source": source}
            )

    def joules(self) -> float | None:
        """Return the integral of power; None where power is not told."""
        with self._lock:
            integral = self.power.integral
            return integral.total if integral.begun else None
