"""The NVML collector on a real GPU, beside what nvidia-smi says of it.

Needs pytest, prometheus_client and pynvml only, so that it runs where the project
is not installed:
    PYTHONPATH=. python3 -m pytest -c /dev/null --rootdir=. -p no:cacheprovider \
        --import-mode=importlib -rs tests/exporters/test_nvml_real.py
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from exporters import nvml_library
from exporters.collectors.nvml import REOPEN_SECONDS, NvmlCollector
from exporters.xid import CRITICAL
from tests.exporters.exposition import collected, series, text, values
from tests.harness.poll import until

MIB = 2**20

# (metric, nvidia-smi's field, factor, absolute and relative tolerance)
COMPARED = [
    ("temperature_celsius", "temperature.gpu", 1, 5, 0),
    ("power_watts", "power.draw", 1, 40, 0.3),
    ("power_limit_watts", "enforced.power.limit", 1, 1, 0),
    ("utilization_ratio", "utilization.gpu", 0.01, 0.3, 0),
    ("memory_used_bytes", "memory.used", MIB, 64 * MIB, 0),
    ("memory_total_bytes", "memory.total", MIB, MIB, 0),
    ("ecc_uncorrected_errors", "ecc.errors.uncorrected.volatile.total", 1, 0, 0),
]

THROTTLE_LINES = {
    "sw_power": "SW Power Capping",
    "sw_thermal": "SW Thermal Slowdown",
    "hw_thermal": "HW Thermal Slowdown",
    "hw_power_brake": "HW Power Braking",
}


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def collector(now) -> Iterator[NvmlCollector]:
    if not nvml_library.installed():
        pytest.skip("NVIDIA's library cannot be loaded here")
    made = NvmlCollector(clock=lambda: now[0])
    yield made
    assert made._close()


def scrape(collector: NvmlCollector) -> dict[str, float]:
    metrics, error = collected(collector)
    assert error is None, error
    return values(text(metrics))


def smi(*arguments: str) -> str:
    path = shutil.which("nvidia-smi")
    if path is None:
        pytest.skip("nvidia-smi is not on PATH")
    return subprocess.run(
        [path, *arguments], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def asked(*fields: str) -> Iterator[dict[str, str]]:
    """Yield nvidia-smi's answer for each GPU, `uuid` included."""
    names = ("uuid", *fields)
    out = smi(f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits")
    for row in csv.reader(out.splitlines(), skipinitialspace=True):
        yield dict(zip(names, row, strict=True))


def number(answer: str) -> float | None:
    """Read a number; None where nvidia-smi says that there is none."""
    return None if re.match(r"\[?N/A|\[Not Supp", answer) else float(answer)


def test_each_gpu_is_named_as_nvidia_smi_names_it(collector) -> None:
    """Same identity, same driver, same bus."""
    found = scrape(collector)
    gpus = list(asked("index", "name", "driver_version", "pci.bus_id"))
    assert found["inferops_gpus"] == len(gpus) > 0
    for gpu in gpus:
        info = series(
            "inferops_gpu_info",
            uuid=gpu["uuid"],
            gpu=gpu["index"],
            name=gpu["name"],
            driver_version=gpu["driver_version"],
            pci_bus_id=gpu["pci.bus_id"],
        )
        assert found[info] == 1


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: row[1])
def test_each_value_is_as_nvidia_smi_has_it(collector, row) -> None:
    """Same value in base units; no series where nvidia-smi has no value."""
    metric, smi_field, factor, absolute, relative = row
    found = scrape(collector)
    for gpu in asked(smi_field):
        expected = number(gpu[smi_field])
        name = series(f"inferops_gpu_{metric}", uuid=gpu["uuid"])
        print(f"{name}: {found.get(name)}, nvidia-smi {smi_field}: {gpu[smi_field]}")
        if expected is None:
            assert name not in found
            continue
        assert found[name] == pytest.approx(
            expected * factor, abs=absolute, rel=relative or None
        )


@pytest.mark.parametrize(
    ("clock", "smi_field"), [("sm", "clocks.max.sm"), ("memory", "clocks.max.mem")]
)
def test_clocks_are_within_their_range(collector, clock, smi_field) -> None:
    """They change by the millisecond, so only the range can be compared."""
    found = scrape(collector)
    for gpu in asked(smi_field):
        name = series("inferops_gpu_clock_hertz", uuid=gpu["uuid"], clock=clock)
        print(f"{name}: {found.get(name)}, nvidia-smi {smi_field}: {gpu[smi_field]}")
        assert 100e6 < found[name] <= float(gpu[smi_field]) * 1e6


@pytest.mark.parametrize("reason", THROTTLE_LINES)
def test_throttled_time_is_as_nvidia_smi_has_it(collector, reason) -> None:
    """The driver's nanoseconds became seconds (nvidia-smi prints microseconds)."""
    found = scrape(collector)
    pattern = rf"{THROTTLE_LINES[reason]}\s*:\s*(\d+) us"
    for gpu in asked():
        report = smi("-q", "-d", "PERFORMANCE", "-i", gpu["uuid"])
        match = re.search(pattern, report)
        name = series(
            "inferops_gpu_throttled_seconds_total", uuid=gpu["uuid"], reason=reason
        )
        print(f"{name}: {found.get(name)}, nvidia-smi: {match and match[0]}")
        if match is None:
            pytest.skip(f"this nvidia-smi prints no time of {THROTTLE_LINES[reason]}")
        assert found[name] == pytest.approx(int(match[1]) / 1e6, abs=5, rel=0.01)


def test_the_temperature_limit_is_one(collector) -> None:
    """Where the driver has a slowdown threshold, it is above what it is now."""
    found = scrape(collector)
    limits = {
        name: value for name, value in found.items() if "temperature_limit" in name
    }
    print(limits)
    for name, value in limits.items():
        current = found[name.replace("_limit", "")]
        assert max(60, current) < value < 120


def test_energy_and_power_agree(collector) -> None:
    """Joules over a second or more are about the watts."""
    uuids = [gpu["uuid"] for gpu in asked()]
    first, began = scrape(collector), time.monotonic()
    second = until(
        lambda: time.monotonic() - began > 1.5 and scrape(collector), "1.5 s passed"
    )
    took = time.monotonic() - began
    for uuid in uuids:
        name = series("inferops_gpu_energy_joules_total", uuid=uuid)
        if name not in first:
            pytest.skip("this GPU counts no energy")
        watts = second[series("inferops_gpu_power_watts", uuid=uuid)]
        measured = (second[name] - first[name]) / took
        print(f"{uuid}: {measured:.1f} W by energy, {watts:.1f} W by power")
        assert watts / 2 < measured < watts * 2


def test_xids_are_watched(collector) -> None:
    """Where events can be had, each critical code exists; none was seen."""
    found = scrape(collector)
    for gpu in collector._session.gpus:
        if gpu.watch is None:
            pytest.skip("this GPU tells no XIDs")
        for code in CRITICAL:
            name = series("inferops_gpu_xid_errors_total", uuid=gpu.uuid, xid=str(code))
            assert found[name] == 0
        assert gpu.watch.alive


def test_a_scrape_is_cheap_while_events_are_waited_for(collector) -> None:
    """The threads that wait for XIDs do not hold the library's other calls up."""
    gpus = scrape(collector)["inferops_gpus"]
    began = time.monotonic()
    for _ in range(10):
        scrape(collector)
    took = (time.monotonic() - began) / 10
    print(f"{took * 1000:.1f} ms a scrape of {gpus:.0f} GPUs")
    assert took < 0.1 * gpus


def test_the_library_can_be_opened_anew(collector, now) -> None:
    """After a fault: watches end, the library closes and opens, same series."""
    before = scrape(collector)
    collector._session.faulty = True
    now[0] += REOPEN_SECONDS
    session = collector._session
    after = scrape(collector)
    assert collector._session is not session
    assert after.keys() == before.keys()
