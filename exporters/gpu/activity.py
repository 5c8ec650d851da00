"""How busy the parts of a card were (GPM, Hopper and newer), between two samples.

Called from the slow sampler's thread; `rows` from any. The driver refuses nothing
between 1 s and 10 min; a pair that is further apart is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from exporters.gpu.integrals import Integral
from exporters.gpu.probes import Troubles
from exporters.gpu.rows import Row
from exporters.nvml_library import Handle, Nvml, NvmlError, activity

PERIOD_SECONDS = 2.0
LEAST_SECONDS = 1.0
MOST_SECONDS = 600.0

ENGINES: Mapping[int, str] = {
    1: "graphics",
    2: "sm",
    4: "integer",
    5: "tensor",
    10: "dram",
    11: "fp64",
    12: "fp32",
    13: "fp16",
}
OCCUPANCY = 3


class Activity:
    """GPM of one card, or of one GPU instance of it.

    prefix: of its series' names; instance: None for the whole card
    """

    def __init__(
        self,
        nvml: Nvml,
        handle: Handle,
        troubles: Troubles,
        prefix: str = "inferops_gpu",
        instance: int | None = None,
    ) -> None:
        self._nvml = nvml
        self._handle = handle
        self._troubles = troubles
        self._prefix = prefix
        self._instance = instance
        self._samples: list[Handle] = []
        self._taken: float | None = None
        self._due = 0.0
        self._totals: dict[int, Integral] = {}
        self._rows: tuple[Row, ...] = ()

    def step(self, now: float) -> None:
        """Take a sample where one is due; raises where card or library is gone."""
        if now < self._due:
            return
        self._due = now + PERIOD_SECONDS
        try:
            self._measure(now)
        except NvmlError as error:
            self._rows = ()
            self._taken = None
            self._troubles.note("nvmlGpmSampleGet", error)
            return
        self._troubles.over("nvmlGpmSampleGet")

    def _measure(self, now: float) -> None:
        nvml = self._nvml
        while len(self._samples) < 2:
            self._samples.append(nvml.nvmlGpmSampleAlloc())
        before, after = self._samples
        if self._instance is None:
            nvml.nvmlGpmSampleGet(self._handle, after)
        else:
            nvml.nvmlGpmMigSampleGet(self._handle, self._instance, after)
        taken, self._taken = self._taken, now
        self._samples.reverse()
        if taken is None or not LEAST_SECONDS <= now - taken <= MOST_SECONDS:
            return
        found = activity(nvml, before, after, (*ENGINES, OCCUPANCY))
        self._rows = tuple(self._told(found, now, taken))

    def _told(
        self, found: Mapping[int, float], now: float, taken: float
    ) -> Iterator[Row]:
        for metric, percent in found.items():
            share = min(max(percent / 100, 0.0), 1.0)
            if metric == OCCUPANCY:
                yield Row(f"{self._prefix}_sm_occupancy_ratio", share)
                continue
            labels = {"engine": ENGINES[metric]}
            total = self._totals.setdefault(metric, Integral())
            total.begin(taken)
            total.add(now, share, "gpm", MOST_SECONDS)
            yield Row(f"{self._prefix}_activity_ratio", share, labels)
            yield Row(f"{self._prefix}_activity_seconds_total", total.total, labels)

    def rows(self) -> tuple[Row, ...]:
        return self._rows

    def end(self) -> None:
        """Give the samples back; from the thread that calls `step`."""
        with suppress(NvmlError):
            while self._samples:
                self._nvml.nvmlGpmSampleFree(self._samples.pop())
