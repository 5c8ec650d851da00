"""A made-up NVML at the boundary of pynvml's functions, with pynvml's own structures.

Figures are of the size that an H200 showed; nothing here talks to a driver.
"""

# ruff: noqa: N802 - pynvml's names

from __future__ import annotations

import queue
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml


@dataclass
class FakeGpu:
    """One device; `fails` maps a function's name, or a field's id, to an error."""

    index: int
    fails: dict[str | int, int] = field(default_factory=dict)
    lost: bool = False
    fields: dict[int, int] = field(
        default_factory=lambda: {
            74: 3_500_000_000,
            269: 0,
            270: 250_000_000,
            271: 1_000_000,
        }
    )
    events: queue.Queue[int] = field(default_factory=queue.Queue)

    @property
    def uuid(self) -> str:
        return f"GPU-{self.index:08x}-0000-0000-0000-000000000000"


@dataclass
class FakeNvml:
    """A library with some GPUs; `gone` makes each call fail with that error."""

    gpus: list[FakeGpu]
    gone: int | None = None
    calls: list[str] = field(default_factory=list)
    open_sets: int = 0

    def _called(self, name: str, gpu: FakeGpu | None = None) -> None:
        self.calls.append(name)
        if self.gone is not None:
            raise pynvml.NVMLError(self.gone)
        if gpu is not None and gpu.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if gpu is not None and name in gpu.fails:
            raise pynvml.NVMLError(gpu.fails[name])

    def nvmlInit(self) -> None:
        self._called("nvmlInit")

    def nvmlShutdown(self) -> None:
        self._called("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self) -> str:
        self._called("nvmlSystemGetDriverVersion")
        return "580.159.04"

    def nvmlDeviceGetCount(self) -> int:
        self._called("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self._called("nvmlDeviceGetHandleByIndex", self.gpus[index])
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        self._called("nvmlDeviceGetUUID", handle)
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        self._called("nvmlDeviceGetName", handle)
        return "NVIDIA H200"

    def nvmlDeviceGetPciInfo(self, handle: FakeGpu) -> pynvml.nvmlPciInfo_t:
        self._called("nvmlDeviceGetPciInfo", handle)
        return pynvml.nvmlPciInfo_t(busId=f"00000000:{handle.index:02X}:00.0".encode())

    def nvmlDeviceGetTemperature(self, handle: FakeGpu, sensor: int) -> int:
        self._called("nvmlDeviceGetTemperature", handle)
        return 40 + handle.index

    def nvmlDeviceGetTemperatureThreshold(self, handle: FakeGpu, kind: int) -> int:
        self._called("nvmlDeviceGetTemperatureThreshold", handle)
        return {0: 92, 1: 89}[kind]

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        self._called("nvmlDeviceGetPowerUsage", handle)
        return 125_500

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: FakeGpu) -> int:
        self._called("nvmlDeviceGetEnforcedPowerLimit", handle)
        return 700_000

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> SimpleNamespace:
        self._called("nvmlDeviceGetUtilizationRates", handle)
        return SimpleNamespace(gpu=48, memory=20)

    def nvmlDeviceGetMemoryInfo(
        self, handle: FakeGpu, version: int
    ) -> pynvml.c_nvmlMemory_v2_t:
        self._called("nvmlDeviceGetMemoryInfo", handle)
        assert version == pynvml.nvmlMemory_v2
        return pynvml.c_nvmlMemory_v2_t(total=150_754_820_096, used=30_000_000_000)

    def nvmlDeviceGetClockInfo(self, handle: FakeGpu, kind: int) -> int:
        self._called("nvmlDeviceGetClockInfo", handle)
        return {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 3201}[kind]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        self._called("nvmlDeviceGetTotalEnergyConsumption", handle)
        return 987_654_321

    def nvmlDeviceGetTotalEccErrors(
        self, handle: FakeGpu, error: int, counter: int
    ) -> int:
        self._called("nvmlDeviceGetTotalEccErrors", handle)
        return {(1, 0): 2, (0, 0): 77}[error, counter]

    def nvmlDeviceGetFieldValues(
        self, handle: FakeGpu, fields: Sequence[int]
    ) -> list[pynvml.c_nvmlFieldValue_t]:
        self._called("nvmlDeviceGetFieldValues", handle)
        found = []
        for number in fields:
            each = pynvml.c_nvmlFieldValue_t(
                fieldId=number,
                valueType=pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
                nvmlReturn=handle.fails.get(number, pynvml.NVML_SUCCESS),
            )
            each.value.ullVal = handle.fields[number]
            found.append(each)
        return found

    def nvmlEventSetCreate(self) -> SimpleNamespace:
        self._called("nvmlEventSetCreate")
        self.open_sets += 1
        return SimpleNamespace(gpu=None)

    def nvmlEventSetFree(self, events: SimpleNamespace) -> None:
        self.open_sets -= 1

    def nvmlDeviceRegisterEvents(
        self, handle: FakeGpu, kinds: int, events: SimpleNamespace
    ) -> None:
        self._called("nvmlDeviceRegisterEvents", handle)
        events.gpu = handle

    def nvmlEventSetWait(
        self, events: SimpleNamespace, milliseconds: int
    ) -> SimpleNamespace:
        try:
            code = events.gpu.events.get(timeout=milliseconds / 1000)
        except queue.Empty:
            self._called("nvmlEventSetWait", events.gpu)
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
        return SimpleNamespace(
            device=events.gpu,
            eventType=pynvml.nvmlEventTypeXidCriticalError,
            eventData=code,
        )
