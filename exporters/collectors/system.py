"""The machine itself, where node_exporter cannot run (macOS, Windows).

Speaks node_exporter's names and units, so that no rule knows the difference; says
nothing that it cannot say in node_exporter's sense.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import psutil
from prometheus_client import Metric

from exporters.families import Family, Kind, metrics

# Those of psutil's fields that do not overlap: Windows counts interrupt and dpc
# within system, Linux guest within user.
CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class Machine(Protocol):
    """The functions of psutil that we call; the module satisfies it."""

    def virtual_memory(self) -> Any: ...
    def getloadavg(self) -> tuple[float, float, float]: ...
    def cpu_times(self, *, percpu: bool) -> Any: ...
    def disk_partitions(self, *, all: bool) -> Sequence[Any]: ...  # noqa: A002 - psutil's name
    def disk_usage(self, path: str) -> Any: ...
    def boot_time(self) -> float: ...


class SystemCollector:
    """Reads it all anew at each scrape."""

    def __init__(
        self, machine: Machine = psutil, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._machine = machine
        self._wall = wall

    def collect(self, deadline: float) -> Iterator[Metric]:
        del deadline  # microseconds, but for a dead mount, which hears nothing
        return metrics(self._families())

    def _families(self) -> Iterator[Family]:
        yield from self._memory()
        yield from self._load()
        yield self._cpu()
        yield from self._filesystems()
        boot = Family("node_boot_time_seconds", "When booted, psutil.boot_time.")
        boot.add(self._machine.boot_time())
        now = Family("node_time_seconds", "The machine's clock, time.time.")
        now.add(self._wall())
        yield from (boot, now)

    def _memory(self) -> Iterator[Family]:
        memory = self._machine.virtual_memory()
        total = Family(
            "node_memory_MemTotal_bytes", "Memory, psutil.virtual_memory total."
        )
        available = Family(
            "node_memory_MemAvailable_bytes",
            "Memory to be had without swapping, psutil.virtual_memory available.",
        )
        total.add(memory.total)
        available.add(memory.available)
        yield from (total, available)

    def _load(self) -> Iterator[Family]:
        loads = self._machine.getloadavg()
        for minutes, load in zip((1, 5, 15), loads, strict=True):
            family = Family(
                f"node_load{minutes}",
                f"Load, mean of {minutes} min, psutil.getloadavg.",
            )
            family.add(load)
            yield family

    def _cpu(self) -> Family:
        seconds = Family(
            "node_cpu_seconds_total",
            "Time of each CPU in each mode, psutil.cpu_times.",
            Kind.COUNTER,
        )
        for number, times in enumerate(self._machine.cpu_times(percpu=True)):
            for mode in CPU_MODES:
                spent = getattr(times, mode, None)
                if spent is not None:
                    seconds.add(spent, cpu=str(number), mode=mode)
        return seconds

    def _filesystems(self) -> Iterator[Family]:
        size = Family("node_filesystem_size_bytes", "Size, psutil.disk_usage total.")
        free = Family(
            "node_filesystem_avail_bytes",
            "Space for users without privileges, psutil.disk_usage free.",
        )
        # What is mounted twice at one place counts once.
        mounts = {
            (each.device, each.mountpoint, each.fstype)
            for each in self._machine.disk_partitions(all=False)
        }
        for device, mountpoint, fstype in sorted(mounts):
            try:
                usage = self._machine.disk_usage(mountpoint)
            except OSError:
                continue  # an empty drive, or one that we may not read
            labels = {"device": device, "mountpoint": mountpoint, "fstype": fstype}
            size.add(usage.total, **labels)
            free.add(usage.free, **labels)
        yield from (size, free)
