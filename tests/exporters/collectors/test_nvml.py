"""The GPU collector, on a made-up library where ctypes would call the real one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pynvml
import pytest

from exporters import nvml_library
from exporters.errors import PartialError
from exporters.gpu.fast import SILENT_SECONDS
from exporters.gpu.loops import STALL_SECONDS
from exporters.gpu.selection import Selection
from exporters.gpu.session import REOPEN_SECONDS, RETRY_SECONDS
from exporters.gpu.settings import GpuSettings
from exporters.nvml_library import Meaning, meaning
from tests.exporters.cards import WALL, Stepped, Threaded, Watched
from tests.exporters.exposition import series
from tests.exporters.fake_nvml import FakeCard, FakeInstance, cards
from tests.harness.poll import until

Make = Callable[..., Stepped]

TEMPERATURE = "inferops_gpu_temperature_celsius"
NOT_READ = "inferops_gpus_not_read{{reason={}}}"

ERRORS = {
    name: value
    for name, value in vars(pynvml).items()
    if name.startswith("NVML_ERROR_") and isinstance(value, int)
} | {"a code of a newer driver": 4711}

# One of each meaning is put to each call; the others to one call of each sampler.
EVERYWHERE = {
    *("NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_UNKNOWN"),
    *("NVML_ERROR_DRIVER_NOT_LOADED", "NVML_ERROR_INSUFFICIENT_SIZE"),
}
SOME_CALLS = {
    *("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetSamples"),
    *("nvmlDeviceGetTemperature", "nvmlDeviceGetTotalEnergyConsumption"),
    *("nvmlEventSetWait_v2", "nvmlGpmSampleGet"),
}


@pytest.fixture
def stepped() -> Iterator[Make]:
    """Make a collector that time passes for by `run` only."""
    made: list[Stepped] = []

    def make(*given: FakeCard, **choice) -> Stepped:
        made.append(Stepped(given or cards(1), GpuSettings(**choice)))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def threaded() -> Iterator[Callable[[int], Threaded]]:
    """Make a collector on its own threads."""
    made: list[Threaded] = []

    def make(count: int = 1) -> Threaded:
        made.append(Threaded(cards(count), GpuSettings()))
        return made[-1]

    yield make
    for each in made:
        each.end()


def about(found: dict[str, float], card: FakeCard) -> set[str]:
    """Names of the metrics that speak of this card."""
    return {name.split("{")[0] for name in found if f"uuid={card.uuid}" in name}


def of(card: FakeCard, name: str, /, **labels: str) -> str:
    return series(f"inferops_gpu_{name}", uuid=card.uuid, **labels)


def xid(card: FakeCard, code: int) -> str:
    return of(card, "xid_errors_total", xid=str(code))


def test_all_that_a_card_says_is_exposed(stepped, golden) -> None:
    """The exposition of two cards, one of which had events, is the golden one."""
    made = stepped(*cards(2), by_process=True)
    made.cards[1].xid(79)
    made.cards[1].events.put((pynvml.nvmlEventTypeDramRetirementEvent, 0))
    made.cards[1].fails["nvmlDeviceGetTemperature"] = pynvml.NVML_ERROR_UNKNOWN
    made.run(1)
    made.cards[1].fails.clear()  # what broke once is counted, and is no fault now
    made.run(32)
    made.scrape()
    assert made.error is None
    golden("nvml.prom", made.text)


def test_instances_of_a_card_have_series_of_their_own(stepped, golden) -> None:
    """Under MIG: instances by their own uuid; what NVML refuses has no series."""
    (card,) = made_cards = cards(1)
    card.instances = [
        FakeInstance(7),
        FakeInstance(8, used=9_000_000_000),
        FakeInstance(8, compute_instance=1, used=9_000_000_000),
    ]
    refused = pynvml.NVML_ERROR_NOT_SUPPORTED
    for call in (
        *("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetRemappedRows"),
        *("nvmlDeviceGetEncoderUtilization", "nvmlDeviceGetDecoderUtilization"),
        *("nvmlDeviceGetProcessUtilization", "nvmlGpmSampleGet"),
    ):
        card.fails[call] = refused
    made = stepped(*made_cards)
    real = made.library.samples
    made.library.samples = lambda kind, since: None if kind else real(kind, since)
    made.run(33)
    found = made.scrape()
    assert made.error is None
    assert not [name for name in about(found, card) if "utilization" in name]
    assert of(card, "busy_seconds_total") not in found
    assert found["inferops_gpus"] == 1
    used = [value for name, value in found.items() if "instance_memory_used" in name]
    assert used == [5e9, 9e9]  # a GPU instance's, however many share it
    assert sum("instance_info" in name for name in found) == 3
    golden("nvml-mig.prom", made.text)


def test_an_instance_that_is_destroyed_loses_its_series(stepped) -> None:
    """MIG can be cut anew at any time."""
    (card,) = made_cards = cards(1)
    card.instances = [FakeInstance(7), FakeInstance(8)]
    made = stepped(*made_cards)
    made.run(3)
    assert sum("instance_info" in name for name in made.scrape()) == 2
    card.instances.pop()
    made.run(11)
    assert sum("instance_info" in name for name in made.scrape()) == 1
    assert made.error is None


def test_a_card_without_half_of_the_calls(stepped, golden) -> None:
    """An older card with an older driver: fewer series, no zeros, no failure.

    Energy and busy time are integrals of what can be polled, and say so.
    """
    made = stepped(FakeCard(name="NVIDIA GeForce GTX 1080", compute_capability=(6, 1)))
    made.library.missing |= {
        *("nvmlDeviceGetSamples", "nvmlDeviceGetTotalEnergyConsumption"),
        *("nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetRemappedRows"),
        *("nvmlDeviceGetFieldValues", "nvmlGpmQueryDeviceSupport"),
        *("nvmlDeviceGetMigMode", "nvmlDeviceGetNvLinkState"),
        *("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceRegisterEvents"),
        *("nvmlDeviceGetEncoderUtilization", "nvmlDeviceGetDecoderUtilization"),
        *("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetVbiosVersion"),
    }
    made.run(33)
    found = made.scrape()
    assert made.error is None
    (card,) = made.cards
    observed = found[of(card, "observed_seconds_total", source="snapshot")]
    assert observed == pytest.approx(33, abs=0.2)
    assert found[of(card, "busy_seconds_total")] > 0
    joules = found[of(card, "energy_joules_total", source="power_samples")]
    assert joules == pytest.approx(33 * 174.5, rel=0.02)
    assert not [name for name in found if "_xid_" in name or "_events_" in name]
    golden("nvml-partial.prom", made.text)


def test_a_card_that_vanishes(stepped, golden) -> None:
    """Its series vanish and `up` says 0; its XID stays, and so does its neighbour."""
    made = stepped(*cards(2))
    lost, well = made.cards
    made.run(2)
    assert "inferops_gpu_busy_seconds_total" in about(made.scrape(), lost)
    lost.xid(79)
    made.run(0.5)
    lost.lost = True
    made.run(1.5)
    found = made.scrape()
    assert isinstance(made.error, PartialError)
    assert str(made.error) == f"{lost.uuid}: GPU is lost"
    assert about(found, lost) == {
        "inferops_gpu_up",
        "inferops_gpu_sampler_last_success_timestamp_seconds",
        "inferops_gpu_xid_errors_total",
        "inferops_gpu_xid_last_timestamp_seconds",
    }
    assert (found[of(lost, "up")], found[of(well, "up")]) == (0, 1)
    assert found[xid(lost, 79)] == 1
    assert xid(lost, 48) not in found
    assert (found["inferops_gpus"], found["inferops_gpus_listed"]) == (1, 2)
    assert TEMPERATURE in about(found, well)
    golden("nvml-vanished.prom", made.text)


def test_a_card_lost_from_the_start_is_reported(stepped) -> None:
    """A card that the library lists but cannot open is a failure, not an absence."""
    made = stepped(*cards(2))
    made.cards[1].lost = True
    made.run(1)
    found = made.scrape()
    assert str(made.error) == "GPU 1: GPU is lost"
    assert (found["inferops_gpus"], found["inferops_gpus_listed"]) == (1, 2)


def test_the_library_lists_no_card(stepped) -> None:
    """Open and empty is a finding: the last card that is lost leaves a zero."""
    made = stepped()
    made.run(1)
    made.library.gone = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    made.run(1)
    made.library.gone = None
    made.cards.clear()
    made.run(RETRY_SECONDS + 1)
    found = made.scrape()
    assert made.error is None
    assert {name: found[name] for name in found if "xid" not in name} == {
        "inferops_gpus": 0,
        "inferops_gpus_listed": 0,
        NOT_READ.format("left_out"): 0,
        NOT_READ.format("no_permission"): 0,
    }


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        pytest.param(pynvml.NVML_ERROR_UNKNOWN, 0, id="unknown error"),
        pytest.param(pynvml.NVML_ERROR_NO_PERMISSION, 1, id="no permission"),
        pytest.param(pynvml.NVML_ERROR_NOT_SUPPORTED, 0, id="not supported"),
        pytest.param(pynvml.NVML_ERROR_GPU_IS_LOST, 0, id="lost"),
        pytest.param(4711, 0, id="a code of a newer driver"),
    ],
)
@pytest.mark.parametrize("opened", [True, False], ids=["later", "from the start"])
def test_a_card_whose_every_call_fails(stepped, code, forbidden, opened) -> None:
    """It does not count as up, whatever it fails with; its neighbour stays."""
    made = stepped(*cards(2))
    struck, well = made.cards
    made.run(2 if opened else 0)
    struck.fails = dict.fromkeys(_calls(stepped), code)
    nvml_library.use(made.library)
    made.run(2)
    found = made.scrape()
    assert found.get(of(struck, "up"), 0) == 0
    assert TEMPERATURE not in about(found, struck)
    made.run(SILENT_SECONDS + 1)
    found = made.scrape()
    assert (found["inferops_gpus"], found["inferops_gpus_listed"]) == (1, 2)
    assert found[NOT_READ.format("no_permission")] == forbidden
    assert found[of(well, "up")] == 1
    assert made.error is not None
    struck.fails = {}
    made.run(2 * REOPEN_SECONDS)
    found = made.scrape()
    assert (found["inferops_gpus"], found[of(struck, "up")]) == (2, 1)


def test_a_moment_without_an_answer_costs_no_minute(stepped) -> None:
    """Only what lasts ends the sampler, which a new opening must begin again."""
    made = stepped()
    (card,) = made.cards
    made.run(2)
    calls = _calls(stepped) - {"nvmlEventSetWait_v2"}  # which ends at once
    card.fails = dict.fromkeys(calls, pynvml.NVML_ERROR_UNKNOWN)
    nvml_library.use(made.library)
    made.run(SILENT_SECONDS - 1)
    assert made.scrape()[of(card, "up")] == 0
    card.fails = {}
    made.run(2)
    assert made.scrape()[of(card, "up")] == 1
    assert made.library.calls["nvmlInitWithFlags"] == 1


def test_each_opening_in_vain_looks_for_another_library(stepped) -> None:
    """While it works, nobody looks."""
    made = stepped()
    made.run(5)
    assert made.opened_in_vain == 0
    made.library.gone = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    made.run(2 * RETRY_SECONDS + 1)
    assert made.opened_in_vain == 3


def test_only_the_chosen_cards_are_read(stepped) -> None:
    """The others are asked for their identity at most, and have no series."""
    made = stepped(*cards(3))
    first, chosen, last = made.cards
    made.selection = Selection((chosen.uuid,), "--gpus")
    made.run(2)
    found = made.scrape()
    assert made.error is None
    assert TEMPERATURE in about(found, chosen)
    assert not about(found, first) | about(found, last)
    assert (found["inferops_gpus"], found["inferops_gpus_listed"]) == (1, 3)
    assert found[NOT_READ.format("left_out")] == 2


def test_a_chosen_card_that_is_lost_is_not_replaced(stepped) -> None:
    """Neither while the driver lists it nor after: the other one is another's."""
    made = stepped(*cards(2))
    other, chosen = made.cards
    made.selection = Selection((chosen.uuid,), "--gpus")
    made.run(2)
    chosen.lost = True
    for listed in (2, 1):
        del made.cards[listed:]
        made.run(REOPEN_SECONDS + 2)
        found = made.scrape()
        assert (found["inferops_gpus"], found["inferops_gpus_listed"]) == (0, listed)
        assert found[NOT_READ.format("left_out")] == 1
        assert TEMPERATURE not in about(found, other)
        assert made.error is not None


def test_another_choice_is_followed(stepped) -> None:
    """An Ollama that was given another card has it read within a minute or so."""
    made = stepped(*cards(2))
    first, second = made.cards
    made.selection = Selection((first.uuid,), "its unit")
    made.run(2)
    assert TEMPERATURE in about(made.scrape(), first)
    made.selection = None  # nothing is known at the moment: as before
    made.run(REOPEN_SECONDS + 1)
    assert TEMPERATURE not in about(made.scrape(), second)
    made.selection = Selection((second.uuid,), "its unit")
    made.run(REOPEN_SECONDS + 3)
    found = made.scrape()
    assert TEMPERATURE in about(found, second)
    assert TEMPERATURE not in about(found, first)


def test_bursts_are_seen_as_such(stepped) -> None:
    """50 ms of every 500 ms: a tenth busy, with its peaks; energy as the driver's."""
    made = stepped()
    (card,) = made.cards
    made.run(3)
    first = made.scrape()
    made.run(30)
    last = made.scrape()

    def grown(name: str, **labels: str) -> float:
        return last[of(card, name, **labels)] - first[of(card, name, **labels)]

    observed = grown("observed_seconds_total", source="ring_buffer")
    assert observed == pytest.approx(30, abs=0.5)
    assert grown("busy_seconds_total") / observed == pytest.approx(0.1, rel=0.03)
    assert grown("energy_joules_total", source="driver") == pytest.approx(30 * 174.5)
    assert last[of(card, "power_window_max_watts")] == 620
    assert last[of(card, "power_window_min_watts")] == 125
    assert last[of(card, "utilization_window_max_ratio")] == 0.25
    samples = grown("power_sample_watts_count")
    assert samples == pytest.approx(1500, abs=25)
    low = grown("power_sample_watts_bucket", le="150.0")
    assert low / samples == pytest.approx(0.88, abs=0.01)  # 3 of 25 are in a burst
    assert last[of(card, "sample_interval_seconds", source="power")] == 0.02
    assert last[of(card, "sample_interval_seconds", source="utilization")] == 0.2
    assert last[of(card, "activity_ratio", engine="sm")] == pytest.approx(0.1)
    assert grown("activity_seconds_total", engine="sm") == pytest.approx(3)


def test_a_buffer_that_runs_dry_is_replaced_by_what_is_polled(stepped) -> None:
    """An idle card's buffer may hold nothing for minutes; then it wakes up."""
    made = stepped()
    (card,) = made.cards
    made.run(5)
    real = made.library.samples
    made.library.samples = lambda kind, since: []
    made.run(60)
    found = made.scrape()
    polled = found[of(card, "observed_seconds_total", source="snapshot")]
    assert polled == pytest.approx(60, abs=3)
    made.library.samples = real
    made.run(10)
    later = made.scrape()
    name = of(card, "observed_seconds_total", source="ring_buffer")
    assert later[name] - found[name] == pytest.approx(10, abs=1.5)
    total = sum(value for key, value in later.items() if "observed_seconds" in key)
    assert total == pytest.approx(75, abs=2)
    assert later[of(card, "observed_seconds_total", source="snapshot")] < 62


def test_a_drivers_clock_that_is_set_back_is_followed(stepped) -> None:
    """All its samples seem old then: after half a minute it is looked at anew."""
    made = stepped()
    (card,) = made.cards
    made.run(5)
    made.library._began += 3600
    made.run(60)
    found = made.scrape()
    made.run(10)
    name = of(card, "observed_seconds_total", source="ring_buffer")
    assert made.scrape()[name] - found[name] == pytest.approx(10, abs=1.1)


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_of_every_call_is_survived(stepped, name) -> None:
    """Nothing is made up, the neighbour stays, and the text names what failed."""
    code = ERRORS[name]
    what = meaning(pynvml.NVMLError(code))
    calls = _calls(stepped) if name in EVERYWHERE else SOME_CALLS
    for call in sorted(calls):
        made = stepped(*cards(2), tick_seconds=1.0)
        made.step = 0.25
        struck, well = made.cards
        made.run(0.25)
        struck.fails[call] = code
        made.run(11)
        found = made.scrape()
        assert all(math.isfinite(value) for value in found.values()), call
        if what is Meaning.GONE:
            struck.fails.clear()  # it is gone for both cards, and comes back for both
            made.run(RETRY_SECONDS + 2)
            found = made.scrape()
        assert TEMPERATURE in about(found, well), call
        if what is Meaning.ABSENT and call != "nvmlEventSetWait_v2":
            assert made.error is None, call  # but for a watch that was on already


def _calls(stepped: Make) -> set[str]:
    """Return the C functions that are called of a card."""
    made = stepped(*cards(1), by_process=True)
    made.run(11)
    made.scrape()
    assert len(made.library.calls) > 45
    not_of_a_card = {
        *("nvmlInitWithFlags", "nvmlShutdown", "nvmlSystemGetDriverVersion"),
        *("nvmlDeviceGetCount_v2", "nvmlSystemGetProcessName", "nvmlEventSetCreate"),
        *("nvmlGpmSampleAlloc", "nvmlGpmMetricsGet"),
    }
    return set(made.library.calls) - not_of_a_card


@pytest.mark.parametrize(
    "name", [name for name, code in ERRORS.items() if code != pynvml.NVML_SUCCESS]
)
def test_every_error_of_a_field_is_survived(stepped, name) -> None:
    """Fields come and go one by one: each has its own return code."""
    made = stepped()
    (card,) = made.cards
    what = meaning(pynvml.NVMLError(ERRORS[name]))
    made.run(1)
    card.fails[271] = ERRORS[name]
    made.run(1.5)
    found = made.scrape()
    assert of(card, "throttled_seconds_total", reason="hw_power_brake") not in found
    kept = of(card, "throttled_seconds_total", reason="sw_power")
    if what is Meaning.ABSENT:
        assert made.error is None
        assert found[kept] == 3.5
    elif what in {Meaning.BROKEN, Meaning.TIMEOUT}:
        text = pynvml.NVMLError._errcode_to_string.get(
            ERRORS[name], f"error {ERRORS[name]}"
        )
        call = "nvmlDeviceGetFieldValues 271"
        assert str(made.error) == f"{card.uuid}: {call}: {text}"
        assert found[kept] == 3.5
        assert found[of(card, "call_errors_total", call=call, error=text)] >= 1


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_at_the_opening_is_survived(stepped, name) -> None:
    """Nothing is claimed while the library cannot be opened; then all is there."""
    made = stepped()
    made.library.gone = ERRORS[name]
    made.run(1)
    assert made.scrape() == {}
    assert str(made.error).startswith("the library cannot be opened: ")
    made.library.gone = None
    made.run(RETRY_SECONDS + 1)
    found = made.scrape()
    assert made.error is None
    assert TEMPERATURE in about(found, made.cards[0])


def test_the_least_of_errors_is_known() -> None:
    """The codes that the driver's documents name for these calls mean what they say."""
    expected = {
        Meaning.ABSENT: {
            *("NOT_SUPPORTED", "NO_PERMISSION", "NOT_FOUND", "INVALID_ARGUMENT"),
            *("FUNCTION_NOT_FOUND", "NO_DATA", "ARGUMENT_VERSION_MISMATCH"),
            *("DEPRECATED", "VGPU_ECC_NOT_SUPPORTED"),
        },
        Meaning.LOST: {"GPU_IS_LOST", "RESET_REQUIRED", "GPU_NOT_FOUND"},
        Meaning.GONE: {
            *("UNINITIALIZED", "DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND"),
            "LIB_RM_VERSION_MISMATCH",
        },
        Meaning.TIMEOUT: {"TIMEOUT"},
    }
    for name, code in ERRORS.items():
        short = name.removeprefix("NVML_ERROR_")
        found = meaning(pynvml.NVMLError(code))
        assert found is next(
            (what for what, names in expected.items() if short in names),
            Meaning.BROKEN,
        )


def test_a_buffer_that_grows_between_two_calls(stepped) -> None:
    """First pynvml asks for the size; its second call may find more."""
    made = stepped()
    (card,) = made.cards
    real = type(made.library)._nvmlDeviceGetSamples
    refused: list[object] = []

    def grows(library, *given):
        if given[-1] is not None and len(refused) < 3:
            refused.append(given)
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        return real(library, *given)

    type(made.library)._nvmlDeviceGetSamples = grows
    try:
        made.run(5)
    finally:
        del type(made.library)._nvmlDeviceGetSamples
    assert len(refused) == 3
    found = made.scrape()
    assert found[of(card, "power_sample_watts_count")] > 200


def test_counters_that_wrap_go_on(stepped) -> None:
    """The driver's 32 bits are no limit of ours."""
    made = stepped()
    (card,) = made.cards
    fields = type(made.library)._nvmlDeviceGetFieldValues

    def narrow(library, handle, count, out):
        fields(library, handle, count, out)
        for each in out._obj:
            if each.fieldId == 197:
                each.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
                each.value.uiVal = card.fields[197] % 2**32
        return 0

    type(made.library)._nvmlDeviceGetFieldValues = narrow
    try:
        card.fields[197] = 2**32 - 1000
        made.run(1.5)
        card.fields[197] += 3000
        made.run(1.5)
    finally:
        type(made.library)._nvmlDeviceGetFieldValues = fields
    found = made.scrape()
    assert found[of(card, "pcie_transmitted_bytes_total")] == 2**32 + 2000


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(0, "none", id="nothing"),
        pytest.param(4, "drain_and_reset", id="drain and reset"),
        pytest.param(7, "reboot_system", id="the newest that we know"),
        pytest.param(99, "unknown", id="of a newer driver"),
    ],
)
def test_the_recovery_action_in_number_and_words(stepped, code, words) -> None:
    """A number to alert on whatever it is, and words to read."""
    made = stepped()
    (card,) = made.cards
    card.fields[230] = code
    made.run(1)
    found = made.scrape()
    assert found[of(card, "recovery_action")] == code
    assert found[of(card, "recovery_action_info", action=words)] == 1


def test_windows_are_whole_and_the_same_for_all(stepped) -> None:
    """The one under way at the start is not told of; scrapes change nothing."""
    made = stepped()
    (card,) = made.cards
    peak = of(card, "power_window_max_watts")
    end = of(card, "window_end_timestamp_seconds")
    assert WALL % 15 == 0
    made.run(16)
    assert peak not in made.scrape()
    made.run(18)
    found = made.scrape()
    assert found[end] == WALL + 30
    assert found[peak] == 620
    assert found[of(card, "window_seconds")] == 15
    assert [made.scrape() for _ in range(3)] == [found] * 3


def test_static_facts_are_read_once(stepped) -> None:
    """Names and limits are asked for at the opening only, and scrapes ask nothing."""
    made = stepped()
    made.run(30)
    before = made.library.calls.copy()
    made.scrape()
    assert made.library.calls == before
    for call in ("nvmlDeviceGetName", "nvmlDeviceGetPciInfo_v3", "nvmlInitWithFlags"):
        assert made.library.calls[call] == 1
    assert made.library.calls["nvmlDeviceGetMaxClockInfo"] == 2  # two clocks
    assert made.library.calls["nvmlDeviceGetTotalEnergyConsumption"] <= 31
    assert "nvmlDeviceGetPcieThroughput" not in made.library.calls


def test_xids_are_counted_by_code(threaded) -> None:
    """Critical codes exist at 0, each event counts, with the time it was seen."""
    made = threaded(2)
    struck, quiet = made.cards
    assert made.scrape()[xid(struck, 79)] == 0
    for code in (79, 79, 31):
        struck.xid(code)
    found = until(
        lambda: (found := made.scrape()).get(xid(struck, 31)) and found, "all counted"
    )
    assert found[xid(struck, 79)] == 2
    assert found[xid(quiet, 79)] == 0
    name = "xid_last_timestamp_seconds"
    assert found[of(struck, name, xid="79")] > WALL
    assert of(quiet, name, xid="79") not in found


def test_a_card_without_events_has_no_xid_series(stepped) -> None:
    """A zero would claim that somebody looks."""
    made = stepped()
    made.cards[0].fails["nvmlDeviceRegisterEvents"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    made.run(2)
    found = made.scrape()
    assert made.error is None
    assert not [name for name in found if "_xid_" in name]
    assert made.library.open_sets == 0


def test_a_watch_that_breaks_is_reported_and_begun_anew(threaded) -> None:
    """Nobody looks any more: no zeros, a failure, and a new watch after a while."""
    made = threaded()
    (card,) = made.cards
    assert xid(card, 79) in made.scrape()
    card.fails["nvmlEventSetWait_v2"] = pynvml.NVML_ERROR_UNKNOWN
    found = until(lambda: xid(card, 79) not in (it := made.scrape()) and it, "no zeros")
    until(lambda: made.scrape() and made.error, "reported")
    assert str(made.error) == (
        f"{card.uuid}: the events sampler has ended: Unknown Error"
    )
    assert TEMPERATURE in about(found, card)
    card.fails.clear()
    made.skip(REOPEN_SECONDS)
    until(lambda: xid(card, 79) in made.scrape() and made.error is None, "watched")


def test_a_lost_card_comes_back_by_reopening(threaded) -> None:
    """The library is opened anew after a while, not at each scrape."""
    made = threaded()
    (card,) = made.cards
    assert TEMPERATURE in about(made.scrape(), card)
    card.lost = True
    until(lambda: made.scrape().get(of(card, "up")) == 0, "lost")
    card.lost = False
    assert made.scrape()[of(card, "up")] == 0
    made.skip(REOPEN_SECONDS)
    until(lambda: TEMPERATURE in about(made.scrape(), card), "back")
    assert made.library.calls["nvmlInitWithFlags"] == 2
    assert made.library.calls["nvmlShutdown"] == 1


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(pynvml.NVML_ERROR_DRIVER_NOT_LOADED, id="driver unloaded"),
        pytest.param(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, id="driver upgraded"),
    ],
)
def test_without_the_library_nothing_is_claimed(threaded, gone) -> None:
    """No series at all while the driver is away, all of them when it is back."""
    made = threaded()
    assert "inferops_gpu_up{uuid=" + made.cards[0].uuid + "}" in made.scrape()
    made.library.gone = gone
    until(lambda: made.scrape() == {}, "nothing is claimed")
    assert isinstance(made.error, PartialError)
    made.library.gone = None
    made.skip(RETRY_SECONDS)
    until(lambda: TEMPERATURE in about(made.scrape(), made.cards[0]), "back")


def hung(made: Watched, card: FakeCard) -> dict[str, float] | None:
    found = made.scrape()
    return found if found[of(card, "up")] == 0 else None


def test_a_driver_call_that_hangs_hangs_no_scrape(threaded) -> None:
    """Its card's series vanish after a while, its last success ages, others stay."""
    made = threaded(2)
    stuck, well = made.cards
    before = made.scrape()
    stuck.hangs = True
    until(
        lambda: made.collector._session.cards[0].loops[1].hanging(made._clock()) > 0.3,
        "a call hangs",
    )
    made.skip(STALL_SECONDS + 1)
    found = until(lambda: hung(made, stuck), "noticed", seconds=5)
    assert "a driver call of the fast sampler hangs" in str(made.error)
    assert TEMPERATURE not in about(found, stuck)
    name = "sampler_last_success_timestamp_seconds"
    assert found[of(stuck, name, sampler="fast")] < WALL + made._clock() - STALL_SECONDS
    assert found["inferops_gpus_listed"] == 2
    # The clock leapt for its samplers too.
    until(lambda: made.scrape()["inferops_gpus"] == 1, "the neighbour answers")
    until(lambda: made.scrape()[of(well, "up")] == 1, "the neighbour goes on")
    stuck.hangs = False
    made.library.let_go.set()
    back = until(
        lambda: (it := made.scrape())[of(stuck, "up")] == 1 and it, "it goes on"
    )
    busy = of(stuck, "busy_seconds_total")
    assert back[busy] >= before[busy]


def test_a_card_that_hangs_at_the_opening(threaded) -> None:
    """The others are opened; the first scrape waits, but for its time only."""
    made = threaded(2)
    stuck, well = made.cards
    stuck.hangs = True
    found = made.scrape()  # the call hangs until the test ends
    assert (found["inferops_gpus"], found["inferops_gpus_listed"]) == (1, 2)
    assert TEMPERATURE in about(found, well)
    made.skip(STALL_SECONDS + 1)
    until(lambda: made.scrape() and made.error, "reported")
    assert "GPU 0: a driver call of the slow sampler hangs" in str(made.error)


def test_a_card_let_go_after_the_end_begins_nothing(threaded) -> None:
    """Its opening hung when the exporter was closed: no sampler of it is left."""
    made = threaded(2)
    made.cards[0].hangs = True
    made.scrape()
    assert not made.collector.close()
    made.library.let_go.set()
    until(made.collector.close, "closed")
    assert made.library.open_sets == 0


def test_a_card_that_hangs_keeps_a_lost_one_from_nobody(threaded) -> None:
    """The library cannot be opened anew under a hung call; the others go on."""
    made = threaded(3)
    stuck, lost, well = made.cards
    made.scrape()
    lost.lost = True
    stuck.hangs = True
    until(lambda: made.scrape()[of(lost, "up")] == 0, "lost")
    made.skip(REOPEN_SECONDS + STALL_SECONDS)
    until(lambda: hung(made, stuck), "hangs")
    until(lambda: made.scrape()[of(well, "up")] == 1, "goes on")
    assert made.library.calls["nvmlInitWithFlags"] == 1
    lost.lost = stuck.hangs = False
    made.library.let_go.set()
    until(
        lambda: [made.scrape().get(of(each, "up")) for each in made.cards] == [1] * 3,
        "all are back",
    )
    assert made.library.calls["nvmlInitWithFlags"] == 2


def test_a_sampler_that_breaks_by_our_own_fault_is_reported(threaded) -> None:
    """A fault of ours ends that sampler, in words, and costs the rest nothing."""
    made = threaded()
    made.scrape()
    real = made.library.samples
    made.library.samples = lambda kind, since: 1 / 0
    until(lambda: made.scrape() and made.error, "reported")
    assert "the fast sampler has ended: ZeroDivisionError" in str(made.error)
    made.library.samples = real
    made.skip(REOPEN_SECONDS)
    until(lambda: made.scrape() and made.error is None, "begun anew")
