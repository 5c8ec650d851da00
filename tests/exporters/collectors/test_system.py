"""The system collector, on a made-up machine and on this one."""

from __future__ import annotations

import time
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from exporters.collectors.system import SystemCollector
from tests.exporters.exposition import collected, series, text, values

MacTimes = namedtuple("MacTimes", "user nice system idle")
WindowsTimes = namedtuple("WindowsTimes", "user system idle interrupt dpc")
Mount = namedtuple("Mount", "device mountpoint fstype")


class FakeMachine:
    """A Mac with an empty drive, and a volume that is listed twice."""

    times = MacTimes(100.0, 1.5, 50.0, 4000.25)

    def virtual_memory(self):
        return SimpleNamespace(total=34_359_738_368, available=12_000_000_000)

    def getloadavg(self):
        return (1.25, 2.5, 0.75)

    def cpu_times(self, *, percpu):
        assert percpu
        return [self.times, self.times]

    def disk_partitions(self, *, all):  # noqa: A002 - psutil's name
        root = Mount("/dev/disk3s1", "/", "apfs")
        return [root, root, Mount("/dev/disk9", "/Volumes/Empty", "cd9660")]

    def disk_usage(self, path):
        if path != "/":
            raise PermissionError(path)
        return SimpleNamespace(total=1_000_000_000_000, free=250_000_000_000)

    def boot_time(self):
        return 1_795_000_000.0


def test_a_machine_is_exposed_in_node_exporters_names(golden) -> None:
    """The exposition of the made-up machine is the golden one."""
    collector = SystemCollector(FakeMachine(), wall=lambda: 1_795_384_000.5)
    metrics, error = collected(collector)
    assert error is None
    golden("system.prom", text(metrics))


def test_times_are_not_counted_twice() -> None:
    """Windows counts interrupts within system: no mode of their own."""
    machine = FakeMachine()
    machine.times = WindowsTimes(10.0, 5.0, 85.0, 1.0, 0.5)
    metrics, _ = collected(SystemCollector(machine))
    modes = {
        name: value
        for name, value in values(text(metrics)).items()
        if name.startswith("node_cpu_seconds_total{cpu=0")
    }
    assert sum(modes.values()) == 100


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        pytest.param(
            "node_memory_MemTotal_bytes",
            lambda: psutil.virtual_memory().total,
            0,
            id="memory",
        ),
        pytest.param("node_boot_time_seconds", psutil.boot_time, 2, id="boot"),
        pytest.param("node_time_seconds", time.time, 60, id="clock"),
        pytest.param(
            series("node_cpu_seconds_total", cpu="0", mode="idle"),
            lambda: psutil.cpu_times(percpu=True)[0].idle,
            60,
            id="idle time",
        ),
    ],
)
def test_this_machine_is_read(name, expected, tolerance) -> None:
    """The real psutil offers all that the collector calls."""
    metrics, error = collected(SystemCollector())
    assert error is None
    found = values(text(metrics))
    assert found[name] == pytest.approx(expected(), abs=tolerance)
