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

    times: MacTimes | WindowsTimes = MacTimes(100.0, 1.5, 50.0, 4000.25)

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

    def swap_memory(self):
        return SimpleNamespace(total=2_147_483_648, free=1_073_741_824)

    def disk_io_counters(self, *, perdisk):
        assert perdisk
        counters = SimpleNamespace(
            read_bytes=4096, write_bytes=8192, read_count=1, write_count=2
        )
        return {"disk0": counters, "sda1": counters, "nvme0n1p2": counters}

    def net_io_counters(self, *, pernic):
        assert pernic
        return {
            "en0": SimpleNamespace(
                bytes_recv=1000,
                bytes_sent=2000,
                packets_recv=10,
                packets_sent=20,
                errin=1,
                errout=2,
                dropin=3,
                dropout=4,
            )
        }


UNAME = SimpleNamespace(
    system="Darwin", release="25.1.0", version="Darwin 25", machine="arm64", node="mac"
)


class Rival:
    """A node_exporter that answers, or does not."""

    def __init__(self, answers: bool) -> None:
        self.there = answers

    def answers(self, deadline: float) -> bool:
        return self.there


ALONE = Rival(answers=False)


def test_a_machine_is_exposed_in_node_exporters_names(golden) -> None:
    """The exposition of the made-up machine is the golden one."""
    collector = SystemCollector(
        ALONE, FakeMachine(), uname=lambda: UNAME, wall=lambda: 1_795_384_000.5
    )
    metrics, error = collected(collector)
    assert error is None
    golden("system.prom", text(metrics))


def test_times_are_not_counted_twice() -> None:
    """Windows counts interrupts within system: no mode of their own."""
    machine = FakeMachine()
    machine.times = WindowsTimes(10.0, 5.0, 85.0, 1.0, 0.5)
    metrics, _ = collected(SystemCollector(ALONE, machine))
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
    metrics, error = collected(SystemCollector(ALONE))
    assert error is None
    found = values(text(metrics))
    assert found[name] == pytest.approx(expected(), abs=tolerance)


def test_it_says_nothing_beside_a_node_exporter() -> None:
    """Both at once would count the machine twice; it asks at each scrape."""
    rival = Rival(answers=True)
    collector = SystemCollector(rival, FakeMachine())
    metrics, error = collected(collector)
    assert error is None
    assert values(text(metrics)) == {"inferops_system_yields": 1}
    rival.there = False
    metrics, _ = collected(collector)
    found = values(text(metrics))
    assert found["inferops_system_yields"] == 0
    assert "node_load1" in found


def test_a_machine_without_disks_has_no_such_series() -> None:
    """Psutil says None where the system does not tell."""

    class Diskless(FakeMachine):
        def disk_io_counters(self, *, perdisk):
            return None

    metrics, error = collected(SystemCollector(ALONE, Diskless()))
    assert error is None
    assert not [n for n in values(text(metrics)) if n.startswith("node_disk")]
