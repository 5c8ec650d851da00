"""NVIDIA GPUs, from the driver's own library.

What a GPU does not offer is no series. A GPU that is lost loses its series at
once, and the collector says that it failed; the other GPUs stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from prometheus_client import Metric

from exporters.errors import PartialError
from exporters.families import Family, Kind, metrics
from exporters.nvml_library import (
    CLOCK_MEMORY,
    CLOCK_SM,
    ECC_UNCORRECTED,
    ECC_VOLATILE,
    MEMORY_V2,
    NVML,
    TEMPERATURE_GPU,
    THRESHOLD_SLOWDOWN,
    Handle,
    Meaning,
    Nvml,
    NvmlError,
    field_number,
    meaning,
)
from exporters.xid import XidLog, XidWatch

# A reset GPU comes back only through a new nvmlInit; XIDs of the other GPUs are
# missed meanwhile, so not at each scrape.
REOPEN_SECONDS = 60.0

Rows = list[tuple["Reading", float]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One value that each GPU may have, and the call that it comes from."""

    name: str
    help: str
    read: Callable[[Nvml, Handle], float]
    kind: Kind = Kind.GAUGE
    labels: Mapping[str, str] = field(default_factory=dict)


def _clock(label: str, clock: int) -> Reading:
    return Reading(
        "inferops_gpu_clock_hertz",
        "Clock now, nvmlDeviceGetClockInfo.",
        lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, clock) * 1e6,
        labels={"clock": label},
    )


def _throttled(reason: str, number: int) -> Reading:
    return Reading(
        "inferops_gpu_throttled_seconds_total",
        "Time at lowered clocks, nvmlDeviceGetFieldValues ids 74, 269, 270, 271.",
        lambda nvml, gpu: (
            field_number(nvml.nvmlDeviceGetFieldValues(gpu, [number])[0]) / 1e9
        ),
        Kind.COUNTER,
        {"reason": reason},
    )


READINGS = (
    Reading(
        "inferops_gpu_temperature_celsius",
        "Core temperature, nvmlDeviceGetTemperature.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, TEMPERATURE_GPU),
    ),
    Reading(
        "inferops_gpu_temperature_limit_celsius",
        "Core temperature at which the hardware slows down, "
        "nvmlDeviceGetTemperatureThreshold.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperatureThreshold(
            gpu, THRESHOLD_SLOWDOWN
        ),
    ),
    Reading(
        "inferops_gpu_power_watts",
        "Power draw, nvmlDeviceGetPowerUsage: mean of 1 s from Ampere on, momentary "
        "on GA100 and older.",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    ),
    Reading(
        "inferops_gpu_power_limit_watts",
        "Power limit in force, nvmlDeviceGetEnforcedPowerLimit.",
        lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1e3,
    ),
    Reading(
        "inferops_gpu_utilization_ratio",
        "Share of the driver's last sample period (1/6 to 1 s) in which any kernel "
        "ran, nvmlDeviceGetUtilizationRates.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    Reading(
        "inferops_gpu_memory_used_bytes",
        "Memory in use without the driver's reserve, nvmlDeviceGetMemoryInfo_v2.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu, MEMORY_V2).used,
    ),
    Reading(
        "inferops_gpu_memory_total_bytes",
        "Memory with the driver's reserve, nvmlDeviceGetMemoryInfo_v2.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu, MEMORY_V2).total,
    ),
    _clock("sm", CLOCK_SM),
    _clock("memory", CLOCK_MEMORY),
    Reading(
        "inferops_gpu_energy_joules_total",
        "Energy since the driver was loaded, nvmlDeviceGetTotalEnergyConsumption.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
        Kind.COUNTER,
    ),
    _throttled("sw_power", 74),
    _throttled("sw_thermal", 269),
    _throttled("hw_thermal", 270),
    _throttled("hw_power_brake", 271),
    Reading(
        "inferops_gpu_ecc_uncorrected_errors",
        "Uncorrected memory errors since the driver was loaded, "
        "nvmlDeviceGetTotalEccErrors (uncorrected, volatile).",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEccErrors(
            gpu, ECC_UNCORRECTED, ECC_VOLATILE
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device as it was found when the library was opened.

    watch: None where it tells no XIDs
    """

    handle: Handle
    uuid: str
    about: Mapping[str, str]
    watch: XidWatch | None


@dataclass(slots=True)
class _Session:
    """What holds from one nvmlInit to the next."""

    opened: float
    gpus: list[Gpu] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # not even found at the start
    faulty: bool = False


class NvmlCollector:
    """Opens the library at the first scrape and keeps it open."""

    def __init__(
        self,
        nvml: Nvml = NVML,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._nvml = nvml
        self._clock = clock
        self._xids = XidLog(wall)
        self._session: _Session | None = None

    def collect(self, deadline: float) -> Iterator[Metric]:
        del deadline  # microseconds a call, and a call that hangs hears nothing
        faults: list[str] = []
        try:
            yield from metrics(self._families(self._opened(), faults))
        except NvmlError as error:
            faults.append(f"the library is gone: {error}")
            self._close()
        yield from metrics(self._xids.families())
        if faults:
            raise PartialError("; ".join(faults))

    def _opened(self) -> _Session:
        session = self._session
        if session is not None:
            due = session.opened + REOPEN_SECONDS
            if not session.faulty or self._clock() < due or not self._close():
                return session
        self._nvml.nvmlInit()
        self._session = session = _Session(self._clock())
        driver = self._nvml.nvmlSystemGetDriverVersion()
        for index in range(self._nvml.nvmlDeviceGetCount()):
            self._find(session, index, driver)
        return session

    def _find(self, session: _Session, index: int, driver: str) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
            about = {
                "uuid": uuid,
                "gpu": str(index),
                "name": nvml.nvmlDeviceGetName(handle),
                "driver_version": driver,
                "pci_bus_id": _decoded(nvml.nvmlDeviceGetPciInfo(handle).busId),
            }
        except NvmlError as error:
            if meaning(error) is Meaning.GONE:
                raise
            session.lost.append(f"GPU {index}: {error}")
            return
        watch = None
        with suppress(NvmlError):
            watch = XidWatch(nvml, handle, uuid, self._xids)
        session.gpus.append(Gpu(handle, uuid, about, watch))

    def _families(self, session: _Session, faults: list[str]) -> list[Family]:
        count = Family("inferops_gpus", "GPUs that answer, nvmlDeviceGetCount.")
        info = Family("inferops_gpu_info", "A GPU that answers, read at nvmlInit.")
        by_name: dict[str, Family] = {}
        faults += session.lost
        for gpu in session.gpus:
            rows = self._rows(gpu, faults)
            if rows is None:
                continue
            if gpu.watch is not None and not gpu.watch.alive:
                faults.append(f"{gpu.uuid}: the watch for XIDs has ended")
            info.add(1, **gpu.about)
            for reading, value in rows:
                by_name.setdefault(
                    reading.name, Family(reading.name, reading.help, reading.kind)
                ).add(value, uuid=gpu.uuid, **reading.labels)
        count.add(len(info.rows))
        session.faulty = bool(faults)
        return [count, info, *by_name.values()]

    def _rows(self, gpu: Gpu, faults: list[str]) -> Rows | None:
        """Read one GPU; None where it is lost. Raises where the library is gone."""
        rows: Rows = []
        for reading in READINGS:
            try:
                rows.append((reading, float(reading.read(self._nvml, gpu.handle))))
            except NvmlError as error:
                match meaning(error):
                    case Meaning.ABSENT:
                        continue
                    case Meaning.LOST:
                        faults.append(f"{gpu.uuid}: {error}")
                        return None
                    case Meaning.GONE:
                        raise
                    case _:
                        faults.append(f"{gpu.uuid}: {reading.name}: {error}")
        return rows

    def _close(self) -> bool:
        """Close the library; False where a thread is still inside of it."""
        if self._session is None:
            return True
        watches = [gpu.watch for gpu in self._session.gpus if gpu.watch is not None]
        for watch in watches:
            watch.end()
        if not all(watch.ended() for watch in watches):
            return False
        self._session = None
        with suppress(NvmlError):
            self._nvml.nvmlShutdown()
        return True


def _decoded(text: str | bytes) -> str:
    # pynvml gives bytes for strings inside structures, str for all others.
    return text.decode() if isinstance(text, bytes) else text
