"""Every metric of the GPU exporter: name, type and the call that it comes from.

`docs/exporters.md` lists the same; a test compares them. What is not here cannot be
exposed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Metric

from exporters.families import Kind
from exporters.gpu.rows import Row

SUFFIXES = ("_bucket", "_count", "_sum")


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as Prometheus is told of it."""

    name: str
    help: str
    kind: Kind = Kind.GAUGE


CATALOGUE = (
    Described(
        "inferops_gpus", "GPUs that answer, of those that nvmlDeviceGetCount lists."
    ),
    Described(
        "inferops_gpus_listed", "GPUs that the driver lists, nvmlDeviceGetCount."
    ),
    Described(
        "inferops_gpus_not_read",
        "GPUs that the driver lists and the exporter does not read: left out by the "
        "selection, or closed for lack of permission.",
    ),
    Described(
        "inferops_gpu_up",
        "Whether all samplers of the GPU work: 0 where it is lost or a driver "
        "call hangs.",
    ),
    Described(
        "inferops_gpu_info", "A GPU that answers; read when the library was opened."
    ),
    Described(
        "inferops_gpu_source_info",
        "Where a quantity of the GPU comes from, and whether it is a mean.",
    ),
    Described(
        "inferops_gpu_temperature_celsius",
        "Core temperature, nvmlDeviceGetTemperature.",
    ),
    Described(
        "inferops_gpu_memory_temperature_celsius",
        "Memory temperature, nvmlDeviceGetFieldValues id 82.",
    ),
    Described(
        "inferops_gpu_temperature_limit_celsius",
        "Core temperature at which the hardware slows down, "
        "nvmlDeviceGetTemperatureThreshold.",
    ),
    Described(
        "inferops_gpu_temperature_shutdown_celsius",
        "Core temperature at which the hardware shuts down, "
        "nvmlDeviceGetTemperatureThreshold.",
    ),
    Described(
        "inferops_gpu_power_watts",
        "Power draw, nvmlDeviceGetPowerUsage: mean of 1 s from Ampere on, "
        "momentary on GA100 and older.",
    ),
    Described(
        "inferops_gpu_power_instant_watts",
        "Momentary power draw, nvmlDeviceGetFieldValues id 186.",
    ),
    Described(
        "inferops_gpu_power_limit_watts",
        "Power limit in force, nvmlDeviceGetEnforcedPowerLimit.",
    ),
    Described(
        "inferops_gpu_power_limit_default_watts",
        "Power limit as delivered, nvmlDeviceGetPowerManagementDefaultLimit.",
    ),
    Described(
        "inferops_gpu_power_limit_max_watts",
        "Highest power limit that may be set, "
        "nvmlDeviceGetPowerManagementLimitConstraints.",
    ),
    Described(
        "inferops_gpu_utilization_ratio",
        "Share of the driver's last sample period (1/6 to 1 s) in which any "
        "kernel ran, nvmlDeviceGetUtilizationRates.",
    ),
    Described(
        "inferops_gpu_memory_utilization_ratio",
        "Share of the driver's last sample period in which memory was read or "
        "written, nvmlDeviceGetUtilizationRates.",
    ),
    Described(
        "inferops_gpu_engine_utilization_ratio",
        "Share of the driver's sample period in which the engine was busy, "
        "nvmlDeviceGetEncoderUtilization, nvmlDeviceGetDecoderUtilization.",
    ),
    Described(
        "inferops_gpu_memory_used_bytes",
        "Memory in use without the driver's reserve, nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described(
        "inferops_gpu_memory_free_bytes",
        "Memory that can be had, nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described(
        "inferops_gpu_memory_reserved_bytes",
        "Memory that the driver keeps for itself, nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described(
        "inferops_gpu_memory_total_bytes",
        "Memory with the driver's reserve, nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described("inferops_gpu_clock_hertz", "Clock now, nvmlDeviceGetClockInfo."),
    Described(
        "inferops_gpu_clock_max_hertz", "Highest clock, nvmlDeviceGetMaxClockInfo."
    ),
    Described(
        "inferops_gpu_performance_state",
        "Performance state from 0 (fastest) to 15, nvmlDeviceGetPerformanceState.",
    ),
    Described(
        "inferops_gpu_clock_event_active",
        "Whether this holds the clocks down now, "
        "nvmlDeviceGetCurrentClocksEventReasons.",
    ),
    Described(
        "inferops_gpu_fan_speed_ratio",
        "Fan speed of its greatest, nvmlDeviceGetFanSpeed_v2; may exceed 1.",
    ),
    Described(
        "inferops_gpu_compute_processes",
        "Processes with a compute context, nvmlDeviceGetComputeRunningProcesses.",
    ),
    Described(
        "inferops_gpu_busy_seconds_total",
        "Time in which any kernel ran: integral of utilization over "
        "observed_seconds, nvmlDeviceGetSamples, else "
        "nvmlDeviceGetUtilizationRates.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_memory_busy_seconds_total",
        "Time in which memory was read or written: integral as of busy_seconds.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_observed_seconds_total",
        "Time that busy_seconds speaks for, by where it was read.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_energy_joules_total",
        "Energy: the driver's counter since it was loaded "
        "(nvmlDeviceGetTotalEnergyConsumption), else the integral of power "
        "samples.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_throttled_seconds_total",
        "Time at lowered clocks, nvmlDeviceGetFieldValues ids 74, 76, 77, 79, "
        "269, 270, 271.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_clock_event_seconds_total",
        "Time in which clock_event_active held, looked at each tick.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_activity_ratio",
        "How busy a part of the GPU was over the last 2 s or so, nvmlGpmMetricsGet.",
    ),
    Described(
        "inferops_gpu_activity_seconds_total",
        "Integral of activity_ratio, nvmlGpmMetricsGet.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_sm_occupancy_ratio",
        "Warps in flight of the most that the SMs can hold, over the last 2 s "
        "or so, nvmlGpmMetricsGet.",
    ),
    Described(
        "inferops_gpu_pcie_transmitted_bytes_total",
        "Bytes sent over PCIe, nvmlDeviceGetFieldValues id 197.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_pcie_received_bytes_total",
        "Bytes received over PCIe, nvmlDeviceGetFieldValues id 198.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_pcie_replays_total",
        "PCIe retries, nvmlDeviceGetFieldValues id 94.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_pcie_link_generation",
        "PCIe generation now, nvmlDeviceGetCurrPcieLinkGeneration.",
    ),
    Described(
        "inferops_gpu_pcie_link_generation_max",
        "Highest PCIe generation of GPU and slot, nvmlDeviceGetMaxPcieLinkGeneration.",
    ),
    Described(
        "inferops_gpu_pcie_link_width",
        "PCIe lanes now, nvmlDeviceGetCurrPcieLinkWidth.",
    ),
    Described(
        "inferops_gpu_pcie_link_width_max",
        "Most PCIe lanes of GPU and slot, nvmlDeviceGetMaxPcieLinkWidth.",
    ),
    Described(
        "inferops_gpu_nvlinks_active", "NVLinks that are up, nvmlDeviceGetNvLinkState."
    ),
    Described(
        "inferops_gpu_nvlink_transmitted_bytes_total",
        "Payload sent over all NVLinks, nvmlDeviceGetFieldValues id 138.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_nvlink_received_bytes_total",
        "Payload received over all NVLinks, nvmlDeviceGetFieldValues id 139.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_nvlink_errors_total",
        "NVLink errors of all lanes, nvmlDeviceGetFieldValues ids 38, 45, 52, 59.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_utilization_sample_ratio",
        "The driver's utilization samples, each counted once, "
        "nvmlDeviceGetSamples, else changes of nvmlDeviceGetUtilizationRates.",
        Kind.HISTOGRAM,
    ),
    Described(
        "inferops_gpu_power_sample_watts",
        "The driver's power samples, each counted once, nvmlDeviceGetSamples, "
        "else changes of the momentary draw.",
        Kind.HISTOGRAM,
    ),
    Described(
        "inferops_gpu_window_seconds",
        "Length of the wall-clock-aligned windows that window_min and "
        "window_max speak of.",
    ),
    Described(
        "inferops_gpu_window_end_timestamp_seconds",
        "End of the last whole window, which window_min and window_max speak of.",
    ),
    Described(
        "inferops_gpu_power_window_min_watts",
        "Least power sample of the last whole window of window_seconds, "
        "nvmlDeviceGetSamples.",
    ),
    Described(
        "inferops_gpu_power_window_max_watts",
        "Greatest power sample of the last whole window of window_seconds, "
        "nvmlDeviceGetSamples.",
    ),
    Described(
        "inferops_gpu_utilization_window_min_ratio",
        "Least utilization sample of the last whole window of window_seconds, "
        "nvmlDeviceGetSamples.",
    ),
    Described(
        "inferops_gpu_utilization_window_max_ratio",
        "Greatest utilization sample of the last whole window of "
        "window_seconds, nvmlDeviceGetSamples.",
    ),
    Described(
        "inferops_gpu_sm_clock_window_min_hertz",
        "Least SM clock at a tick of the last whole window of window_seconds.",
    ),
    Described(
        "inferops_gpu_sm_clock_window_max_hertz",
        "Greatest SM clock at a tick of the last whole window of window_seconds.",
    ),
    Described(
        "inferops_gpu_memory_used_window_min_bytes",
        "Least memory_used at a tick of the last whole window of window_seconds.",
    ),
    Described(
        "inferops_gpu_memory_used_window_max_bytes",
        "Greatest memory_used at a tick of the last whole window of window_seconds.",
    ),
    Described(
        "inferops_gpu_xid_errors_total",
        "XID errors since the exporter began to watch, nvmlEventSetWait_v2.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_xid_last_timestamp_seconds",
        "When an XID error was last seen, nvmlEventSetWait_v2.",
    ),
    Described(
        "inferops_gpu_events_total",
        "Events other than XIDs since the exporter began to watch, "
        "nvmlEventSetWait_v2.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_event_last_timestamp_seconds",
        "When an event was last seen, nvmlEventSetWait_v2.",
    ),
    Described(
        "inferops_gpu_ecc_uncorrected_errors",
        "Uncorrected memory errors since the driver was loaded, "
        "nvmlDeviceGetTotalEccErrors (uncorrected, volatile).",
    ),
    Described(
        "inferops_gpu_ecc_corrected_errors",
        "Corrected memory errors since the driver was loaded, "
        "nvmlDeviceGetTotalEccErrors (corrected, volatile).",
    ),
    Described(
        "inferops_gpu_ecc_uncorrected_lifetime_errors",
        "Uncorrected memory errors in the life of the GPU, "
        "nvmlDeviceGetTotalEccErrors (uncorrected, aggregate).",
    ),
    Described(
        "inferops_gpu_ecc_corrected_lifetime_errors",
        "Corrected memory errors in the life of the GPU, "
        "nvmlDeviceGetTotalEccErrors (corrected, aggregate).",
    ),
    Described(
        "inferops_gpu_remapped_rows",
        "Memory rows replaced by spare ones, nvmlDeviceGetRemappedRows.",
    ),
    Described(
        "inferops_gpu_row_remap_pending",
        "Whether rows wait for a reset to be replaced, nvmlDeviceGetRemappedRows.",
    ),
    Described(
        "inferops_gpu_row_remap_failed",
        "Whether a row could not be replaced: no spare ones left, "
        "nvmlDeviceGetRemappedRows.",
    ),
    Described(
        "inferops_gpu_retired_pages",
        "Memory pages taken out of use, nvmlDeviceGetFieldValues ids 29, 30.",
    ),
    Described(
        "inferops_gpu_retired_pages_pending",
        "Whether pages wait for a reset to be taken out of use, "
        "nvmlDeviceGetFieldValues id 31.",
    ),
    Described(
        "inferops_gpu_recovery_action",
        "What the driver asks for: 0 nothing, greater values something, "
        "nvmlDeviceGetFieldValues id 230.",
    ),
    Described("inferops_gpu_recovery_action_info", "The recovery action in words."),
    Described(
        "inferops_gpu_sample_interval_seconds",
        "Median time between distinct samples of late, as observed.",
    ),
    Described("inferops_gpu_samples_total", "Distinct samples taken in.", Kind.COUNTER),
    Described(
        "inferops_gpu_sampler_tick_seconds",
        "Time between two ticks of the fast sampler, as configured.",
    ),
    Described(
        "inferops_gpu_sampler_ticks_total", "Ticks of the fast sampler.", Kind.COUNTER
    ),
    Described(
        "inferops_gpu_sampler_late_ticks_total",
        "Ticks of the fast sampler that began more than one tick late.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_sampler_busy_seconds_total",
        "Time that a sampler spent reading, waiting for the driver included.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_sampler_last_success_timestamp_seconds",
        "When a sampler last read all that it had to; it ages while a driver "
        "call hangs.",
    ),
    Described(
        "inferops_gpu_call_errors_total",
        "Calls that failed for another reason than that the GPU does not offer them.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_instance_info",
        "A MIG instance, nvmlDeviceGetMigDeviceHandleByIndex.",
    ),
    Described(
        "inferops_gpu_instance_memory_used_bytes",
        "Memory of the instance in use, nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described(
        "inferops_gpu_instance_memory_free_bytes",
        "Memory of the instance that can be had, nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described(
        "inferops_gpu_instance_memory_reserved_bytes",
        "Memory of the instance that the driver keeps for itself, "
        "nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described(
        "inferops_gpu_instance_memory_total_bytes",
        "Memory of the instance, nvmlDeviceGetMemoryInfo_v2.",
    ),
    Described(
        "inferops_gpu_instance_activity_ratio",
        "How busy a part of the GPU instance was over the last 2 s or so, "
        "nvmlGpmMigSampleGet.",
    ),
    Described(
        "inferops_gpu_instance_activity_seconds_total",
        "Integral of instance_activity_ratio, nvmlGpmMigSampleGet.",
        Kind.COUNTER,
    ),
    Described(
        "inferops_gpu_instance_sm_occupancy_ratio",
        "Warps in flight of the most that the instance's SMs can hold, "
        "nvmlGpmMigSampleGet.",
    ),
    Described(
        "inferops_gpu_process_memory_bytes",
        "Memory of the GPU that a process uses, nvmlDeviceGetComputeRunningProcesses.",
    ),
    Described(
        "inferops_gpu_process_utilization_ratio",
        "Share of the driver's last sample period in which kernels of a process "
        "ran, nvmlDeviceGetProcessUtilization.",
    ),
)


def _by_series() -> dict[str, Described]:
    found = {each.name: each for each in CATALOGUE}
    for each in CATALOGUE:
        if each.kind is Kind.HISTOGRAM:
            found |= {each.name + suffix: each for suffix in SUFFIXES}
    return found


_BY_SERIES = _by_series()


def exposed(rows: Iterable[Row]) -> Iterator[Metric]:
    """Yield the families of these series, in the catalogue's order."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(_BY_SERIES[row.name].name, []).append(row)
    for each in CATALOGUE:
        if each.name not in grouped:
            continue
        # prometheus_client adds a counter's suffix to the family's name itself.
        metric = Metric(each.name.removesuffix("_total"), each.help, each.kind)
        for row in grouped[each.name]:
            metric.add_sample(row.name, dict(row.labels), row.value)
        yield metric
