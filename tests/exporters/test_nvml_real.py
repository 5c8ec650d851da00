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
from exporters.collectors.nvml import NvmlCollector
from exporters.gpu.events import CRITICAL
from exporters.gpu.session import REOPEN_SECONDS
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
def skipped() -> list[float]:
    """Seconds that the collector's clock is ahead."""
    return [0.0]


@pytest.fixture
def collector(skipped) -> Iterator[NvmlCollector]:
    if not nvml_library.installed():
        pytest.skip("NVIDIA's library cannot be loaded here")
    made = NvmlCollector(clock=lambda: time.monotonic() + skipped[0])
    made.start()
    # Until buffers have been drained twice: the first look only sets a mark.
    until(
        lambda: any("busy_seconds_total" in name for name in scrape(made)),
        "samplers are under way",
    )
    yield made
    assert made.close()


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
    gpus = list(asked("index", "name", "driver_version", "pci.bus_id", "vbios_version"))
    assert found["inferops_gpus"] == found["inferops_gpus_listed"] == len(gpus) > 0
    infos = [name for name in found if name.startswith("inferops_gpu_info{")]
    print(infos)
    for gpu in gpus:
        (info,) = (name for name in infos if gpu["uuid"] in name)
        for label, field in (
            *(("gpu", "index"), ("name", "name")),
            *(("driver_version", "driver_version"), ("pci_bus_id", "pci.bus_id")),
            ("vbios_version", "vbios_version"),
        ):
            assert f"{label}={gpu[field]}" in info
        assert found[series("inferops_gpu_up", uuid=gpu["uuid"])] == 1


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
    """Joules over some seconds are about the watts of the samples."""
    uuids = [gpu["uuid"] for gpu in asked()]
    drained = [series("inferops_gpu_power_sample_watts_count", uuid=u) for u in uuids]
    first = until(
        lambda: (found := scrape(collector)) and found.keys() >= set(drained) and found,
        "the power buffer was drained",
    )
    began = time.monotonic()
    second = until(
        lambda: time.monotonic() - began > 5 and scrape(collector), "5 s passed"
    )
    took = time.monotonic() - began
    for uuid in uuids:
        name = series("inferops_gpu_energy_joules_total", uuid=uuid, source="driver")
        if name not in first:
            pytest.skip("this GPU counts no energy")
        key = series("inferops_gpu_power_sample_watts_sum", uuid=uuid)
        count = series("inferops_gpu_power_sample_watts_count", uuid=uuid)
        watts = (second[key] - first[key]) / (second[count] - first[count])
        measured = (second[name] - first[name]) / took
        print(f"{uuid}: {measured:.1f} W by energy, {watts:.1f} W by samples")
        assert watts / 2 < measured < watts * 2


def test_the_buffers_are_drained(collector) -> None:
    """Utilisation and power come from the driver's own samples, at their spacing."""

    def drained() -> dict[str, float] | None:
        found = scrape(collector)
        named = [name for name in found if "sample_interval" in name]
        return found if named else None

    found = until(drained, "samples came")
    intervals = {
        name: value for name, value in found.items() if "sample_interval" in name
    }
    sources = [name for name in found if "source_info" in name]
    print(intervals, sources)
    for name, value in intervals.items():
        assert 0.005 < value < 2, name


def test_xids_are_watched(collector) -> None:
    """Where events can be had, each critical code exists; none was seen."""
    found = scrape(collector)
    for gpu in asked():
        names = [
            series("inferops_gpu_xid_errors_total", uuid=gpu["uuid"], xid=str(code))
            for code in CRITICAL
        ]
        if not any(name in found for name in names):
            pytest.skip("this GPU tells no XIDs")
        assert [found[name] for name in names] == [0] * len(names)


def test_a_scrape_is_cheap(collector) -> None:
    """It reads what the samplers left: no call of the driver is in it."""
    gpus = scrape(collector)["inferops_gpus"]
    began = time.monotonic()
    for _ in range(10):
        scrape(collector)
    took = (time.monotonic() - began) / 10
    print(f"{took * 1000:.1f} ms a scrape of {gpus:.0f} GPUs")
    assert took < 0.1 * gpus


def test_the_library_can_be_opened_anew(collector, skipped) -> None:
    """After a fault: threads end, the library closes and opens, same series."""
    before = scrape(collector)
    session = collector._session
    cards = session.cards
    # As if the watch for events had broken.
    cards[0].loops[-1].reason = "made to fail by a test"
    skipped[0] += REOPEN_SECONDS
    until(lambda: session.cards and session.cards is not cards, "opened anew")
    until(
        lambda: before.keys() <= {*collected_names(collector)},
        "all series are back",
        seconds=40,
    )


def collected_names(collector: NvmlCollector) -> set[str]:
    metrics, _error = collected(collector)
    return set(values(text(metrics)))
