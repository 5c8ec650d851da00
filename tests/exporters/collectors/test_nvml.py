"""The NVML collector, on a made-up library."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pynvml
import pytest

from exporters.collectors.nvml import REOPEN_SECONDS, NvmlCollector
from exporters.errors import CollectError, PartialError
from tests.exporters.exposition import collected, series, text, values
from tests.exporters.fake_nvml import FakeGpu, FakeNvml
from tests.harness.poll import until

WALL = 1_795_384_000.0


class Bench:
    """A collector on a made-up library, and a clock that stands still."""

    def __init__(self, gpus: int) -> None:
        self.nvml = FakeNvml([FakeGpu(index) for index in range(gpus)])
        self.now = 0.0
        self.collector = NvmlCollector(
            self.nvml, clock=lambda: self.now, wall=lambda: WALL
        )

    def scrape(self) -> dict[str, float]:
        self.metrics, self.error = collected(self.collector)
        return values(text(self.metrics))

    error: CollectError | None = None


@pytest.fixture
def bench() -> Iterator[Callable[[int], Bench]]:
    made: list[Bench] = []

    def make(gpus: int = 1) -> Bench:
        made.append(Bench(gpus))
        return made[-1]

    yield make
    for each in made:
        each.nvml.gone = None
        assert each.collector._close()
        assert each.nvml.open_sets == 0


def about(found: dict[str, float], gpu: FakeGpu) -> set[str]:
    """Names of the metrics that speak of this GPU, XIDs apart."""
    return {
        name.split("{")[0]
        for name in found
        if f"uuid={gpu.uuid}" in name and "_xid_" not in name
    }


def xid(gpu: FakeGpu, code: int) -> str:
    return series("inferops_gpu_xid_errors_total", uuid=gpu.uuid, xid=str(code))


def test_all_that_a_gpu_says_is_exposed(bench, golden) -> None:
    """The exposition of two GPUs is the golden one, in base units."""
    made = bench(2)
    made.scrape()
    assert made.error is None
    golden("nvml.prom", text(made.metrics))


@pytest.mark.parametrize(
    ("call", "error", "missing"),
    [
        pytest.param(
            "nvmlDeviceGetUtilizationRates",
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            "inferops_gpu_utilization_ratio",
            id="utilisation under MIG",
        ),
        pytest.param(
            "nvmlDeviceGetTotalEccErrors",
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            "inferops_gpu_ecc_uncorrected_errors",
            id="no ECC",
        ),
        pytest.param(
            "nvmlDeviceGetMemoryInfo",
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            "inferops_gpu_memory_used_bytes",
            id="older driver",
        ),
        pytest.param(
            "nvmlDeviceGetPowerUsage",
            pynvml.NVML_ERROR_NO_PERMISSION,
            "inferops_gpu_power_watts",
            id="no right",
        ),
    ],
)
def test_what_a_gpu_does_not_offer_is_no_series(bench, call, error, missing) -> None:
    """That value has no series, the others stay, and it is no failure."""
    made = bench(1)
    before = about(made.scrape(), made.nvml.gpus[0])
    made.nvml.gpus[0].fails[call] = error
    after = about(made.scrape(), made.nvml.gpus[0])
    assert made.error is None
    assert missing in before - after
    assert "inferops_gpu_temperature_celsius" in after


def test_a_field_that_is_not_offered_is_no_series(bench) -> None:
    """Throttle reasons come and go one by one: each field has its own return code."""
    made = bench(1)
    gpu = made.nvml.gpus[0]
    gpu.fails[271] = pynvml.NVML_ERROR_NOT_SUPPORTED
    found = made.scrape()
    assert made.error is None
    name = "inferops_gpu_throttled_seconds_total"
    assert found[series(name, uuid=gpu.uuid, reason="sw_power")] == 3.5
    assert series(name, uuid=gpu.uuid, reason="hw_power_brake") not in found


def test_a_call_that_breaks_is_reported(bench) -> None:
    """An unknown error costs that series, and the collector says that it failed."""
    made = bench(1)
    gpu = made.nvml.gpus[0]
    gpu.fails["nvmlDeviceGetPowerUsage"] = pynvml.NVML_ERROR_UNKNOWN
    found = made.scrape()
    assert isinstance(made.error, PartialError)
    assert str(made.error) == (f"{gpu.uuid}: inferops_gpu_power_watts: Unknown Error")
    assert "inferops_gpu_power_watts" not in about(found, gpu)
    assert "inferops_gpu_temperature_celsius" in about(found, gpu)


def test_a_lost_gpu_loses_its_series(bench) -> None:
    """A GPU that is lost in operation vanishes at once; its neighbour stays."""
    made = bench(2)
    lost, well = made.nvml.gpus
    made.scrape()
    lost.lost = True
    found = made.scrape()
    assert isinstance(made.error, PartialError)
    assert str(made.error) == f"{lost.uuid}: GPU is lost"
    assert about(found, lost) == set()
    assert "inferops_gpu_temperature_celsius" in about(found, well)
    assert found["inferops_gpus"] == 1


def test_a_gpu_lost_from_the_start_is_reported(bench) -> None:
    """A GPU that the library lists but cannot open is a failure, not an absence."""
    made = bench(2)
    made.nvml.gpus[1].lost = True
    found = made.scrape()
    assert str(made.error) == "GPU 1: GPU is lost"
    assert found["inferops_gpus"] == 1


def test_a_lost_gpu_comes_back_by_reopening(bench) -> None:
    """The library is opened anew after a while, not at each scrape."""
    made = bench(1)
    gpu = made.nvml.gpus[0]
    gpu.lost = True
    made.scrape()
    gpu.lost = False
    made.scrape()
    assert made.nvml.calls.count("nvmlInit") == 1
    made.now += REOPEN_SECONDS
    found = made.scrape()
    assert made.nvml.calls.count("nvmlInit") == 2
    assert made.nvml.calls.count("nvmlShutdown") == 1
    assert made.error is None
    assert "inferops_gpu_temperature_celsius" in about(found, gpu)


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(pynvml.NVML_ERROR_DRIVER_NOT_LOADED, id="driver unloaded"),
        pytest.param(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, id="driver upgraded"),
    ],
)
def test_without_the_library_nothing_is_claimed(bench, gone) -> None:
    """No series at all while the driver is away, all of them when it is back."""
    made = bench(1)
    before = made.scrape()
    made.nvml.gone = gone
    until(lambda: made.scrape() == {}, "zeros of the watch are gone")
    assert isinstance(made.error, PartialError)
    made.nvml.gone = None
    assert made.scrape() == before
    assert made.error is None


def test_xids_are_counted_by_code(bench) -> None:
    """Critical codes exist at 0, each event counts, with the time it was seen."""
    made = bench(2)
    struck, quiet = made.nvml.gpus
    assert made.scrape()[xid(struck, 79)] == 0
    struck.events.put(79)
    struck.events.put(79)
    struck.events.put(31)
    found = until(
        lambda: (found := made.scrape()).get(xid(struck, 31)) and found, "all counted"
    )
    assert found[xid(struck, 79)] == 2
    assert found[xid(quiet, 79)] == 0
    name = "inferops_gpu_xid_last_timestamp_seconds"
    assert found[series(name, uuid=struck.uuid, xid="79")] == WALL
    assert series(name, uuid=quiet.uuid, xid="79") not in found


def test_an_xid_outlives_its_gpu(bench) -> None:
    """Code 79 says that the GPU is lost: it must not vanish with it."""
    made = bench(1)
    gpu = made.nvml.gpus[0]
    made.scrape()
    gpu.events.put(79)
    gpu.lost = True
    found = until(
        lambda: xid(gpu, 48) not in (found := made.scrape()) and found,
        "the watch has ended, its zeros are gone",
    )
    assert found[xid(gpu, 79)] == 1


def test_a_gpu_without_events_has_no_xid_series(bench) -> None:
    """A zero would claim that somebody looks."""
    made = bench(1)
    gpu = made.nvml.gpus[0]
    gpu.fails["nvmlDeviceRegisterEvents"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    found = made.scrape()
    assert made.error is None
    assert not [name for name in found if "_xid_" in name]
    assert made.nvml.open_sets == 0


def test_a_watch_that_breaks_is_reported_and_begun_anew(bench) -> None:
    """Nobody looks any more: no zeros, a failure, and a new watch after a while."""
    made = bench(1)
    gpu = made.nvml.gpus[0]
    before = made.scrape()
    gpu.fails["nvmlEventSetWait"] = pynvml.NVML_ERROR_UNKNOWN
    found = until(lambda: xid(gpu, 79) not in (it := made.scrape()) and it, "no zeros")
    made.scrape()
    assert str(made.error) == f"{gpu.uuid}: the watch for XIDs has ended"
    assert "inferops_gpu_temperature_celsius" in about(found, gpu)
    gpu.fails.clear()
    made.now += REOPEN_SECONDS
    assert made.scrape() == before
    assert made.error is None


def test_static_facts_are_read_once(bench) -> None:
    """Names and bus ids are asked for at the opening only."""
    made = bench(1)
    made.scrape()
    made.scrape()
    assert made.nvml.calls.count("nvmlDeviceGetName") == 1
    assert made.nvml.calls.count("nvmlDeviceGetPciInfo") == 1
    assert made.nvml.calls.count("nvmlDeviceGetTemperature") == 2
