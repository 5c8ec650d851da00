"""The machine itself, where node_exporter cannot run (macOS, Windows).

Speaks node_exporter's names and units, so that no rule knows the difference; says
nothing that it cannot say in node_exporter's sense, and nothing at all while a
node_exporter answers on this machine: two sources would count it twice.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import psutil
from prometheus_client import Metric

from exporters.families import Family, Kind, metrics
from exporters.node_exporter import NodeExporter

# Those of psutil's fields that do not overlap: Windows counts interrupt and dpc
# within system, Linux guest within user.
CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

# As node_exporter's diskstats: whole disks, or their partitions would count twice.
_NO_DISK = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p|mmcblk\d+p)\d+")

_NETWORK = {
    "receive_bytes": "bytes_recv",
    "transmit_bytes": "bytes_sent",
    "receive_packets": "packets_recv",
    "transmit_packets": "packets_sent",
    "receive_errs": "errin",
    "transmit_errs": "errout",
    "receive_drop": "dropin",
    "transmit_drop": "dropout",
}
_DISK = {
    "read_bytes": "read_bytes",
    "written_bytes": "write_bytes",
    "reads_completed": "read_count",
    "writes_completed": "write_count",
}


class Machine(Protocol):
    """The functions of psutil that we call; the module satisfies it."""

    def virtual_memory(self) -> Any: ...
    def swap_memory(self) -> Any: ...
    def getloadavg(self) -> tuple[float, float, float]: ...
    def cpu_times(self, *, percpu: bool) -> Any: ...
    def disk_partitions(self, *, all: bool) -> Sequence[Any]: ...  # noqa: A002 - psutil's name
    def disk_usage(self, path: str) -> Any: ...
    def disk_io_counters(self, *, perdisk: bool) -> Any: ...
    def net_io_counters(self, *, pernic: bool) -> Any: ...
    def boot_time(self) -> float: ...


class Rival(Protocol):
    """What speaks for this machine where it runs (`NodeExporter`)."""

    def answers(self, deadline: float) -> bool: ...


class SystemCollector:
    """Reads it all anew at each scrape."""

    def __init__(
        self,
        rival: Rival | None = None,
        machine: Machine = psutil,
        *,
        uname: Callable[[], Any] = platform.uname,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._rival = NodeExporter() if rival is None else rival
        self._machine = machine
        self._uname = uname
        self._wall = wall

    def collect(self, deadline: float) -> Iterator[Metric]:
        # Asked anew each time: it may be installed, or end, while we run.
        answers = self._rival.answers(deadline)
        yield Family.of(
            "inferops_system_yields",
            "Whether node_exporter answers on this machine, and so speaks for it.",
            answers,
        ).metric()
        if not answers:
            yield from metrics(self._families())

    def _families(self) -> Iterator[Family]:
        yield from self._memory()
        yield from self._load()
        yield self._cpu()
        yield from self._filesystems()
        yield from self._disks()
        yield from self._network()
        yield self._system()
        booted = self._machine.boot_time()
        yield Family.of(
            "node_boot_time_seconds", "When booted, psutil.boot_time.", booted
        )
        yield Family.of(
            "node_time_seconds", "The machine's clock, time.time.", self._wall()
        )

    def _memory(self) -> Iterator[Family]:
        memory = self._machine.virtual_memory()
        swap = self._machine.swap_memory()
        yield Family.of(
            "node_memory_MemTotal_bytes",
            "Memory, psutil.virtual_memory total.",
            memory.total,
        )
        yield Family.of(
            "node_memory_MemAvailable_bytes",
            "Memory to be had without swapping, psutil.virtual_memory available.",
            memory.available,
        )
        yield Family.of(
            "node_memory_SwapTotal_bytes",
            "Swap space, psutil.swap_memory total.",
            swap.total,
        )
        yield Family.of(
            "node_memory_SwapFree_bytes",
            "Unused swap, psutil.swap_memory free.",
            swap.free,
        )

    def _load(self) -> Iterator[Family]:
        loads = self._machine.getloadavg()
        for minutes, load in zip((1, 5, 15), loads, strict=True):
            about = f"Load, mean of {minutes} min, psutil.getloadavg."
            yield Family.of(f"node_load{minutes}", about, load)

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

    def _disks(self) -> Iterator[Family]:
        counters = self._machine.disk_io_counters(perdisk=True) or {}
        disks = {n: c for n, c in counters.items() if not _NO_DISK.fullmatch(n)}
        return _counters("node_disk", "psutil.disk_io_counters", _DISK, disks)

    def _network(self) -> Iterator[Family]:
        devices = self._machine.net_io_counters(pernic=True) or {}
        return _counters("node_network", "psutil.net_io_counters", _NETWORK, devices)

    def _system(self) -> Family:
        name = self._uname()
        return Family.of(
            "node_uname_info",
            "This system, platform.uname.",
            1,
            sysname=name.system,
            release=name.release,
            version=name.version,
            machine=name.machine,
            nodename=name.node,
            domainname="(none)",  # as node_exporter writes one that is not set
        )


def _counters(
    prefix: str, call: str, fields: Mapping[str, str], devices: Mapping[str, Any]
) -> Iterator[Family]:
    for name, field in fields.items():
        family = Family(f"{prefix}_{name}_total", f"{call} {field}.", Kind.COUNTER)
        for device, counters in devices.items():
            family.add(getattr(counters, field), device=device)
        yield family
