"""NVIDIA's management library, as far as we call it.

The only file that imports pynvml; its module object satisfies `Nvml`, and so does
a fake in a test. Sorts the library's errors by what they mean for a reading.
"""

# ruff: noqa: N802 - the functions have the library's own names

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Protocol, TypeAlias, cast

import pynvml

Handle: TypeAlias = Any  # a device or an event set; opaque
NvmlError: TypeAlias = pynvml.NVMLError

TEMPERATURE_GPU: int = pynvml.NVML_TEMPERATURE_GPU
THRESHOLD_SLOWDOWN: int = pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
CLOCK_SM: int = pynvml.NVML_CLOCK_SM
CLOCK_MEMORY: int = pynvml.NVML_CLOCK_MEM
ECC_UNCORRECTED: int = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
ECC_VOLATILE: int = pynvml.NVML_VOLATILE_ECC
MEMORY_V2: int = pynvml.nvmlMemory_v2
EVENT_XID: int = pynvml.nvmlEventTypeXidCriticalError


class Nvml(Protocol):
    """The functions of pynvml that we call, under their own names."""

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle: ...
    def nvmlDeviceGetUUID(self, handle: Handle) -> str: ...
    def nvmlDeviceGetName(self, handle: Handle) -> str: ...
    def nvmlDeviceGetPciInfo(self, handle: Handle) -> Any: ...
    def nvmlDeviceGetTemperature(self, handle: Handle, sensor: int) -> int: ...
    def nvmlDeviceGetTemperatureThreshold(self, handle: Handle, kind: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Handle) -> int: ...
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Handle) -> int: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Handle) -> Any: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int) -> Any: ...
    def nvmlDeviceGetClockInfo(self, handle: Handle, kind: int) -> int: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Handle) -> int: ...
    def nvmlDeviceGetTotalEccErrors(
        self, handle: Handle, error: int, counter: int
    ) -> int: ...
    def nvmlDeviceGetFieldValues(
        self, handle: Handle, fields: Sequence[int]
    ) -> Sequence[Any]: ...
    def nvmlEventSetCreate(self) -> Handle: ...
    def nvmlEventSetFree(self, events: Handle) -> None: ...
    def nvmlEventSetWait(self, events: Handle, milliseconds: int) -> Any: ...
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
    return _MEANINGS.get(error.value, Meaning.BROKEN)


_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}


def field_number(field: Any) -> float:
    """Take a field's number out of its union; raises the field's own error."""
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise NvmlError(field.nvmlReturn)
    return float(getattr(field.value, _MEMBERS[field.valueType]))
