"""The tables of readings: what is asked of a card, how often, and what it becomes.

Paces are from what the calls cost on an H200: 2 to 8 µs for those of the fast
table, 4 ms for the energy, 1.4 ms for a utilisation buffer. PCIe throughput (21 ms,
blocking) is never asked for; the driver's own byte counters are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporters.gpu.probes import Field, FieldsProbe, Probe
from exporters.gpu.rows import NO_LABELS, Row
from exporters.nvml_library import (
    ALL_LINKS,
    CLOCKS,
    ECC_CORRECTED,
    ECC_LIFETIME,
    ECC_UNCORRECTED,
    ECC_VOLATILE,
    MEMORY_V2,
    NVLINKS,
    PERFORMANCE_STATE_UNKNOWN,
    TEMPERATURE_GPU,
    THRESHOLD_SHUTDOWN,
    THRESHOLD_SLOWDOWN,
    Handle,
    Nvml,
    may_be_absent,
)

TICK = 0.0
SECOND = 1.0
SLOW = 10.0
ONCE = 3600.0

POWER = "inferops_gpu_power_watts"
POWER_INSTANT = "inferops_gpu_power_instant_watts"
UTILIZATION = "inferops_gpu_utilization_ratio"
MEMORY_UTILIZATION = "inferops_gpu_memory_utilization_ratio"
MEMORY_USED = "inferops_gpu_memory_used_bytes"
SM_CLOCK = ("inferops_gpu_clock_hertz", "sm")
RECOVERY_ACTION = "inferops_gpu_recovery_action"
CLOCK_EVENTS_CALL = "nvmlDeviceGetCurrentClocksEventReasons"

# A bit that is not here is "other".
REASONS: Mapping[int, str] = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "sw_power",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display",
}

RECOVERY_ACTIONS: Mapping[int, str] = {
    0: "none",
    1: "reset_gpu",
    2: "reboot_node",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "reset_bus",
    7: "reboot_system",
}


def _clock_events(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    name = "inferops_gpu_clock_event_active"
    for bit, reason in REASONS.items():
        yield Row(name, bool(bits & bit), {"reason": reason})
    yield Row(name, bool(bits & ~sum(REASONS)), {"reason": "other"})


def recovery_action(code: float) -> str:
    """Return the driver's number in words; newer drivers may have more."""
    return RECOVERY_ACTIONS.get(int(code), "unknown")


def memory(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    found = nvml.nvmlDeviceGetMemoryInfo(gpu, MEMORY_V2)
    yield Row(MEMORY_USED, found.used)
    yield Row("inferops_gpu_memory_free_bytes", found.free)
    yield Row("inferops_gpu_memory_reserved_bytes", found.reserved)
    yield Row("inferops_gpu_memory_total_bytes", found.total)


def _one(
    name: str,
    call: str,
    period: float,
    *arguments: int,
    factor: float = 1.0,
    labels: Mapping[str, str] = NO_LABELS,
) -> Probe:
    """Read one number by the library's function `call`, as one series."""

    def rows(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
        yield Row(name, getattr(nvml, call)(gpu, *arguments) * factor, labels)

    return Probe(call, period, rows)


def clock(label: str) -> Probe:
    return _one(
        "inferops_gpu_clock_hertz",
        "nvmlDeviceGetClockInfo",
        TICK if label == "sm" else SECOND,
        CLOCKS[label],
        factor=1e6,
        labels={"clock": label},
    )


def _max_clock(label: str) -> Probe:
    return _one(
        "inferops_gpu_clock_max_hertz",
        "nvmlDeviceGetMaxClockInfo",
        ONCE,
        CLOCKS[label],
        factor=1e6,
        labels={"clock": label},
    )


def _utilization(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    found = nvml.nvmlDeviceGetUtilizationRates(gpu)
    yield Row(UTILIZATION, found.gpu / 100)
    yield Row(MEMORY_UTILIZATION, found.memory / 100)


def _performance_state(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    state = nvml.nvmlDeviceGetPerformanceState(gpu)
    if state != PERFORMANCE_STATE_UNKNOWN:
        yield Row("inferops_gpu_performance_state", state)


def _watts(name: str, call: str, period: float) -> Probe:
    return _one(name, call, period, factor=1e-3)


def _engine(label: str, read: str) -> Probe:
    labels = {"engine": label}

    def rows(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
        share = getattr(nvml, read)(gpu)[0] / 100
        yield Row("inferops_gpu_engine_utilization_ratio", share, labels)

    return Probe(read, SLOW, rows)


def _fans(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    for fan in range(nvml.nvmlDeviceGetNumFans(gpu)):
        share = nvml.nvmlDeviceGetFanSpeed_v2(gpu, fan) / 100
        yield Row("inferops_gpu_fan_speed_ratio", share, {"fan": str(fan)})


def _links(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    states = []
    for link in range(NVLINKS):
        with may_be_absent():
            states.append(nvml.nvmlDeviceGetNvLinkState(gpu, link))
    if states:
        yield Row("inferops_gpu_nvlinks_active", sum(map(bool, states)))


def _ecc(name: str, error: int, counter: int) -> Probe:
    return _one(name, "nvmlDeviceGetTotalEccErrors", SLOW, error, counter)


def _remapped(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    correctable, uncorrectable, pending, failed = nvml.nvmlDeviceGetRemappedRows(gpu)
    name = "inferops_gpu_remapped_rows"
    yield Row(name, correctable, {"cause": "correctable"})
    yield Row(name, uncorrectable, {"cause": "uncorrectable"})
    yield Row("inferops_gpu_row_remap_pending", bool(pending))
    yield Row("inferops_gpu_row_remap_failed", bool(failed))


def _processes(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    # By its version: the plain name raises an error of no kin on an older driver.
    found = nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)
    yield Row("inferops_gpu_compute_processes", len(found))


def _limits(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    _least, greatest = nvml.nvmlDeviceGetPowerManagementLimitConstraints(gpu)
    yield Row("inferops_gpu_power_limit_max_watts", greatest / 1e3)


def _throttled(number: int, reason: str) -> Field:
    name = "inferops_gpu_throttled_seconds_total"
    return Field(number, name, {"reason": reason}, 1e-9)


def _nvlink_errors(number: int, error: str) -> Field:
    return Field(number, "inferops_gpu_nvlink_errors_total", {"error": error})


FAST: tuple[Probe | FieldsProbe, ...] = (
    FieldsProbe(
        (
            Field(186, POWER_INSTANT, factor=1e-3),
            Field(82, "inferops_gpu_memory_temperature_celsius"),
        ),
        TICK,
    ),
    Probe("nvmlDeviceGetMemoryInfo", TICK, memory),
    Probe(CLOCK_EVENTS_CALL, TICK, _clock_events),
    *map(clock, CLOCKS),
    _one(
        "inferops_gpu_temperature_celsius",
        "nvmlDeviceGetTemperature",
        SECOND,
        TEMPERATURE_GPU,
    ),
    _watts(POWER, "nvmlDeviceGetPowerUsage", SECOND),
    Probe("nvmlDeviceGetUtilizationRates", SECOND, _utilization),
    Probe("nvmlDeviceGetPerformanceState", SECOND, _performance_state),
)

SLOW_TABLE: tuple[Probe | FieldsProbe, ...] = (
    _one(
        "inferops_gpu_energy_joules_total",
        "nvmlDeviceGetTotalEnergyConsumption",
        SECOND,
        factor=1e-3,
        labels={"source": "driver"},
    ),
    FieldsProbe(
        (
            _throttled(74, "sw_power"),
            _throttled(76, "sync_boost"),
            _throttled(77, "board_limit"),
            _throttled(79, "reliability"),
            _throttled(269, "sw_thermal"),
            _throttled(270, "hw_thermal"),
            _throttled(271, "hw_power_brake"),
            Field(197, "inferops_gpu_pcie_transmitted_bytes_total", wraps=True),
            Field(198, "inferops_gpu_pcie_received_bytes_total", wraps=True),
        ),
        SECOND,
    ),
    FieldsProbe(
        (
            _nvlink_errors(38, "crc_flit"),
            _nvlink_errors(45, "crc_data"),
            _nvlink_errors(52, "replay"),
            _nvlink_errors(59, "recovery"),
            Field(
                138,
                "inferops_gpu_nvlink_transmitted_bytes_total",
                factor=1024,
                scope=ALL_LINKS,
            ),
            Field(
                139,
                "inferops_gpu_nvlink_received_bytes_total",
                factor=1024,
                scope=ALL_LINKS,
            ),
            Field(29, "inferops_gpu_retired_pages", {"cause": "single_bit"}),
            Field(30, "inferops_gpu_retired_pages", {"cause": "double_bit"}),
            Field(31, "inferops_gpu_retired_pages_pending"),
            Field(94, "inferops_gpu_pcie_replays_total", wraps=True),
            Field(230, RECOVERY_ACTION),
        ),
        SLOW,
    ),
    _ecc("inferops_gpu_ecc_uncorrected_errors", ECC_UNCORRECTED, ECC_VOLATILE),
    _ecc("inferops_gpu_ecc_corrected_errors", ECC_CORRECTED, ECC_VOLATILE),
    _ecc("inferops_gpu_ecc_uncorrected_lifetime_errors", ECC_UNCORRECTED, ECC_LIFETIME),
    _ecc("inferops_gpu_ecc_corrected_lifetime_errors", ECC_CORRECTED, ECC_LIFETIME),
    Probe("nvmlDeviceGetRemappedRows", SLOW, _remapped),
    _watts("inferops_gpu_power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", SLOW),
    _engine("encoder", "nvmlDeviceGetEncoderUtilization"),
    _engine("decoder", "nvmlDeviceGetDecoderUtilization"),
    Probe("nvmlDeviceGetFanSpeed_v2", SLOW, _fans),
    Probe("nvmlDeviceGetNvLinkState", SLOW, _links),
    Probe("nvmlDeviceGetComputeRunningProcesses", SLOW, _processes),
    _one(
        "inferops_gpu_pcie_link_generation",
        "nvmlDeviceGetCurrPcieLinkGeneration",
        SLOW,
    ),
    _one("inferops_gpu_pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth", SLOW),
    _one(
        "inferops_gpu_pcie_link_generation_max",
        "nvmlDeviceGetMaxPcieLinkGeneration",
        ONCE,
    ),
    _one("inferops_gpu_pcie_link_width_max", "nvmlDeviceGetMaxPcieLinkWidth", ONCE),
    _one(
        "inferops_gpu_temperature_limit_celsius",
        "nvmlDeviceGetTemperatureThreshold",
        ONCE,
        THRESHOLD_SLOWDOWN,
    ),
    _one(
        "inferops_gpu_temperature_shutdown_celsius",
        "nvmlDeviceGetTemperatureThreshold",
        ONCE,
        THRESHOLD_SHUTDOWN,
    ),
    _watts(
        "inferops_gpu_power_limit_default_watts",
        "nvmlDeviceGetPowerManagementDefaultLimit",
        ONCE,
    ),
    Probe("nvmlDeviceGetPowerManagementLimitConstraints", ONCE, _limits),
    _max_clock("sm"),
    _max_clock("memory"),
)
