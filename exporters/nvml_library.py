"""NVIDIA's management library, as far as we call it.

The only file that imports pynvml; its module object satisfies `Nvml`. A made-up
library takes the place of the real one below pynvml, where ctypes calls it. Sorts
the library's errors by what they mean for a reading.
"""

# ruff: noqa: N802 - the functions have the library's own names

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import pynvml

Handle: TypeAlias = Any  # a device, an event set or a GPM sample; opaque
NvmlError: TypeAlias = pynvml.NVMLError
T = TypeVar("T")

TEMPERATURE_GPU: int = pynvml.NVML_TEMPERATURE_GPU
THRESHOLD_SHUTDOWN: int = pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN
THRESHOLD_SLOWDOWN: int = pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
CLOCKS: Mapping[str, int] = {
    "sm": pynvml.NVML_CLOCK_SM,
    "memory": pynvml.NVML_CLOCK_MEM,
    "graphics": pynvml.NVML_CLOCK_GRAPHICS,
    "video": pynvml.NVML_CLOCK_VIDEO,
}
ECC_CORRECTED: int = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED
ECC_UNCORRECTED: int = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
ECC_VOLATILE: int = pynvml.NVML_VOLATILE_ECC
ECC_LIFETIME: int = pynvml.NVML_AGGREGATE_ECC
MEMORY_V2: int = pynvml.nvmlMemory_v2
SAMPLES_POWER: int = pynvml.NVML_TOTAL_POWER_SAMPLES
SAMPLES_UTILIZATION: int = pynvml.NVML_GPU_UTILIZATION_SAMPLES
SAMPLES_MEMORY_UTILIZATION: int = pynvml.NVML_MEMORY_UTILIZATION_SAMPLES
PERFORMANCE_STATE_UNKNOWN: int = pynvml.NVML_PSTATE_UNKNOWN
MIG_ENABLED: int = pynvml.NVML_DEVICE_MIG_ENABLE
NVLINKS: int = pynvml.NVML_NVLINK_MAX_LINKS
ALL_LINKS: int = 0xFFFFFFFF  # as a field's scope

EVENT_XID: int = pynvml.nvmlEventTypeXidCriticalError
EVENTS: Mapping[int, str] = {
    pynvml.nvmlEventTypeSingleBitEccError: "ecc_single_bit",
    pynvml.nvmlEventTypeDoubleBitEccError: "ecc_double_bit",
    pynvml.nvmlEventTypeSingleBitEccErrorStorm: "ecc_single_bit_storm",
    pynvml.nvmlEventTypeDramRetirementEvent: "dram_retirement",
    pynvml.nvmlEventTypeDramRetirementFailure: "dram_retirement_failure",
    pynvml.nvmlEventTypeNonFatalPoisonError: "poison_nonfatal",
    pynvml.nvmlEventTypeFatalPoisonError: "poison_fatal",
    pynvml.nvmlEventTypeGpuUnavailableError: "gpu_unavailable",
    pynvml.nvmlEventTypeGpuRecoveryAction: "recovery_action",
    pynvml.nvmlEventMigConfigChange: "mig_config",
}


class Nvml(Protocol):
    """The functions of pynvml that we call, under their own names.

    Those that give one number are called by their names in gpu/readings.py.
    """

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str: ...
    def nvmlSystemGetProcessName(self, pid: int) -> str: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle: ...
    def nvmlDeviceGetUUID(self, handle: Handle) -> str: ...
    def nvmlDeviceGetName(self, handle: Handle) -> str: ...
    def nvmlDeviceGetPciInfo(self, handle: Handle) -> Any: ...
    def nvmlDeviceGetVbiosVersion(self, handle: Handle) -> str: ...
    def nvmlDeviceGetCudaComputeCapability(self, handle: Handle) -> Sequence[int]: ...
    def nvmlDeviceGetPowerManagementLimitConstraints(
        self, handle: Handle
    ) -> Sequence[int]: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Handle) -> Any: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int) -> Any: ...
    def nvmlDeviceGetPerformanceState(self, handle: Handle) -> int: ...
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Handle) -> int: ...
    def nvmlDeviceGetNumFans(self, handle: Handle) -> int: ...
    def nvmlDeviceGetFanSpeed_v2(self, handle: Handle, fan: int) -> int: ...
    def nvmlDeviceGetSamples(
        self, handle: Handle, kind: int, last_seen: int
    ) -> tuple[int, Sequence[Any]]: ...
    def nvmlDeviceGetRemappedRows(self, handle: Handle) -> Sequence[int]: ...
    def nvmlDeviceGetFieldValues(
        self, handle: Handle, fields: Sequence[int | tuple[int, int]]
    ) -> Sequence[Any]: ...
    def nvmlDeviceGetNvLinkState(self, handle: Handle, link: int) -> int: ...
    def nvmlDeviceGetComputeRunningProcesses_v3(
        self, handle: Handle
    ) -> Sequence[Any]: ...
    def nvmlDeviceGetProcessUtilization(
        self, handle: Handle, last_seen: int
    ) -> Sequence[Any]: ...
    def nvmlDeviceGetMigMode(self, handle: Handle) -> Sequence[int]: ...
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int: ...
    def nvmlDeviceGetMigDeviceHandleByIndex(
        self, handle: Handle, index: int
    ) -> Handle: ...
    def nvmlDeviceGetGpuInstanceId(self, handle: Handle) -> int: ...
    def nvmlDeviceGetComputeInstanceId(self, handle: Handle) -> int: ...
    def nvmlGpmQueryDeviceSupport(self, handle: Handle) -> Any: ...
    def nvmlGpmSampleAlloc(self) -> Handle: ...
    def nvmlGpmSampleFree(self, sample: Handle) -> None: ...
    def nvmlGpmSampleGet(self, handle: Handle, sample: Handle) -> Handle: ...
    def nvmlGpmMigSampleGet(
        self, handle: Handle, instance: int, sample: Handle
    ) -> Handle: ...
    def nvmlGpmMetricsGet(self, request: Any) -> Any: ...
    def nvmlEventSetCreate(self) -> Handle: ...
    def nvmlEventSetFree(self, events: Handle) -> None: ...
    def nvmlEventSetWait(self, events: Handle, milliseconds: int) -> Any: ...
    def nvmlDeviceGetSupportedEventTypes(self, handle: Handle) -> int: ...
    def nvmlDeviceRegisterEvents(
        self, handle: Handle, kinds: int, events: Handle
    ) -> None: ...


NVML = cast("Nvml", pynvml)


def installed() -> bool:
    """Whether the library can be loaded; does not talk to the driver."""
    try:
        # nvmlInit would do it too, but hangs where the driver does.
        pynvml._LoadNvmlLibrary()  # noqa: SLF001
    except NvmlError:
        return False
    return True


def use(library: object | None) -> None:
    """Put a made-up library where pynvml keeps the real one; None takes it away.

    For the whole process: meant for its start, and for tests.
    """
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001


class Meaning(Enum):
    """What an error of a call on one device says."""

    ABSENT = auto()  # the device, the driver or our rights do not offer this value
    TIMEOUT = auto()  # no event came
    LOST = auto()  # the device is gone until it is reset
    GONE = auto()  # the library is: none of its answers hold
    BROKEN = auto()  # anything else: this value should be there


_MEANINGS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: Meaning.ABSENT,
    pynvml.NVML_ERROR_NO_PERMISSION: Meaning.ABSENT,
    pynvml.NVML_ERROR_NOT_FOUND: Meaning.ABSENT,
    pynvml.NVML_ERROR_INVALID_ARGUMENT: Meaning.ABSENT,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: Meaning.ABSENT,
    pynvml.NVML_ERROR_NO_DATA: Meaning.ABSENT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: Meaning.ABSENT,
    pynvml.NVML_ERROR_DEPRECATED: Meaning.ABSENT,
    pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: Meaning.ABSENT,
    pynvml.NVML_ERROR_TIMEOUT: Meaning.TIMEOUT,
    pynvml.NVML_ERROR_GPU_IS_LOST: Meaning.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: Meaning.LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND: Meaning.LOST,
    pynvml.NVML_ERROR_UNINITIALIZED: Meaning.GONE,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: Meaning.GONE,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: Meaning.GONE,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: Meaning.GONE,
}


def meaning(error: NvmlError) -> Meaning:
    """Return what an error of a call on one device says."""
    return _MEANINGS.get(error.value, Meaning.BROKEN)


def if_offered(read: Callable[[], T]) -> T | None:
    """Return what a card offers, None where it does not; raises where it is gone."""
    try:
        return read()
    except NvmlError as error:
        if meaning(error) in {Meaning.LOST, Meaning.GONE}:
            raise
        return None


@contextmanager
def may_be_absent() -> Iterator[None]:
    """Go on where a card does not have what is asked for within."""
    try:
        yield
    except NvmlError as error:
        if meaning(error) is not Meaning.ABSENT:
            raise


def is_forbidden(error: NvmlError) -> bool:
    """Whether the caller may not ask; that says nothing of the device."""
    return bool(error.value == pynvml.NVML_ERROR_NO_PERMISSION)


def closed_devices(dev: Path = Path("/dev")) -> list[str]:
    """Return the cards' devices that this user may not open."""
    found = [*sorted(dev.glob("nvidia[0-9]*")), dev / "nvidiactl"]
    closed = (each for each in found if each.exists())
    return [str(each) for each in closed if not os.access(each, os.R_OK | os.W_OK)]


def describe(error: NvmlError) -> str:
    """Return pynvml's words for an error, without asking the driver for any."""
    # str(error) calls nvmlErrorString for codes that pynvml does not know.
    words: Mapping[int, str] = NvmlError._errcode_to_string  # noqa: SLF001
    return words.get(error.value, f"error {error.value}")


def samples(
    nvml: Nvml, handle: Handle, kind: int, last_seen: int
) -> list[tuple[int, float]]:
    """Return a buffer's samples after `last_seen`: microseconds and value."""
    try:
        of, found = nvml.nvmlDeviceGetSamples(handle, kind, last_seen)
    except NvmlError as error:
        # pynvml asks for the size first: the buffer may have grown since.
        if error.value != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
            raise
        of, found = nvml.nvmlDeviceGetSamples(handle, kind, last_seen)
    return [(each.timeStamp, number(of, each.sampleValue)) for each in found]


def is_dry(error: NvmlError) -> bool:
    """Whether a buffer has no sample now, as on an idle card."""
    return bool(error.value == pynvml.NVML_ERROR_NOT_FOUND)


_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}
_WRAPS_AT = {
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: 2**32,
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: 2**16,
}


def number(kind: int, union: Any) -> float:
    """Take a number of the library's value type `kind` out of its union."""
    member = _MEMBERS.get(kind)
    if member is None:
        raise NvmlError(pynvml.NVML_ERROR_UNKNOWN)
    return float(getattr(union, member))


def field_number(field: Any) -> float:
    """Take a field's number out of its union; raises the field's own error."""
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise NvmlError(field.nvmlReturn)
    return number(field.valueType, field.value)


def wraps_at(field: Any) -> int:
    """Return the number that a field's counter begins anew at; 0: not in practice."""
    return _WRAPS_AT.get(field.valueType, 0)


def activity(
    nvml: Nvml, before: Handle, after: Handle, metrics: Sequence[int]
) -> dict[int, float]:
    """Return what GPM measured between two samples, by metric id; 0 to 100.

    Metrics that the card does not have are left out.
    """
    request = pynvml.c_nvmlGpmMetricsGet_t()
    request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics = len(metrics)
    request.sample1 = before
    request.sample2 = after
    for place, metric in enumerate(metrics):
        request.metrics[place].metricId = metric
    nvml.nvmlGpmMetricsGet(request)
    return {
        each.metricId: each.value
        for each in request.metrics[: len(metrics)]
        if each.nvmlReturn == pynvml.NVML_SUCCESS
    }
