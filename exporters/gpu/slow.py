"""The slow sampler of one card: what costs milliseconds or hardly changes.

Called from one thread; `rows` from any. Each part swaps whole tuples, so no lock.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporters.gpu.activity import Activity
from exporters.gpu.instances import Instances
from exporters.gpu.probes import Probe, Probes, Troubles
from exporters.gpu.processes import processes
from exporters.gpu.readings import (
    RECOVERY_ACTION,
    SLOW,
    SLOW_TABLE,
    recovery_action,
)
from exporters.gpu.rows import Row
from exporters.nvml_library import Handle, Nvml, if_offered

ENERGY = "inferops_gpu_energy_joules_total"


class Slow:
    """What one card's slow sampler gathers."""

    def __init__(
        self,
        nvml: Nvml,
        handle: Handle,
        uuid: str,
        troubles: Troubles,
        *,
        by_process: bool,
    ) -> None:
        """Ask what the card offers; raises NvmlError where it is gone."""
        table: tuple[Probe, ...] = ()
        if by_process:
            table = (Probe("nvmlSystemGetProcessName", SLOW, processes),)
        self._probes = Probes(nvml, handle, (*SLOW_TABLE, *table), troubles)
        support = if_offered(lambda: nvml.nvmlGpmQueryDeviceSupport(handle))
        gpm = support is not None and bool(support.isSupportedDevice)
        self._activity = Activity(nvml, handle, troubles) if gpm else None
        self._instances = Instances(nvml, handle, uuid, troubles, gpm=gpm)
        self.counts_energy = False

    def step(self, now: float) -> None:
        """Read what is due; raises NvmlError where the card or library is gone."""
        self._probes.step(now)
        self.counts_energy |= self._probes.latest(ENERGY) is not None
        if self._activity is not None:
            self._activity.step(now)
        self._instances.step(now)

    def rows(self) -> Iterator[Row]:
        yield from self._probes.rows()
        if self._activity is not None:
            yield from self._activity.rows()
        yield from self._instances.rows()
        code = self._probes.latest(RECOVERY_ACTION)
        if code is not None:
            labels = {"action": recovery_action(code)}
            yield Row("inferops_gpu_recovery_action_info", 1, labels)

    def end(self) -> None:
        if self._activity is not None:
            self._activity.end()
        self._instances.end()
