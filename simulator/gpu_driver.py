"""A simulated NVIDIA library with one GPU, for `simulator.gpu_exporter` and for tests.

Stands below pynvml, where ctypes calls the real one: each method has the name and the
arguments of a C function and returns its status. So everything above it is what runs
on a real card. Its card works in bursts of 50 ms every 500 ms; figures are of the
size that an H200 showed. It talks to no driver.
"""

# The functions have the library's own names and arguments, used or not, and write
# through ctypes' references.
# ruff: noqa: ARG002, N802, PLR0917, SLF001

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SUCCESS = 0
NOT_SUPPORTED = 3
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
TIMEOUT = 10

UNSIGNED_INT = 1
UNSIGNED_LONG_LONG = 3

BURST_SECONDS = 0.05
PERIOD_SECONDS = 0.5
POWER_STEP = 20_000  # microseconds between two samples of power
UTILIZATION_STEP = 200_000
IDLE_WATTS = 125.0
BURST_WATTS = 620.0
GIB = 2**30
HANDLES = 0x1000


@dataclass
class SimulatedGpu:
    """One made-up card; `fields` are the driver's numbered ones, less moving ones."""

    index: int = 0
    uuid: str = "GPU-00000000-dead-beef-0000-00000000demo"
    name: str = "InferOps simulated GPU"
    compute_capability: tuple[int, int] = (9, 0)
    total: int = 150_754_820_096
    used: int = 30 * GIB
    reserved: int = 600_000_000
    fields: dict[int, int] = field(
        default_factory=lambda: {
            **dict.fromkeys((29, 30, 31, 38, 45, 52, 59, 76, 77, 79, 94, 230, 269), 0),
            74: 3_500_000_000,
            270: 250_000_000,
            271: 1_000_000,
            82: 51,
            138: 4_000,
            139: 3_000,
            197: 7_000_000,
            198: 9_000_000,
        }
    )


# What functions write into their last references, for any card and always.
_FIXED: Mapping[str, Sequence[int]] = {
    "nvmlInitWithFlags": (),
    "nvmlShutdown": (),
    "nvmlDeviceGetEnforcedPowerLimit": (700_000,),
    "nvmlDeviceGetPowerManagementDefaultLimit": (700_000,),
    "nvmlDeviceGetPowerManagementLimitConstraints": (200_000, 700_000),
    "nvmlDeviceGetEncoderUtilization": (0, 167_000),
    "nvmlDeviceGetDecoderUtilization": (0, 167_000),
    "nvmlDeviceGetPerformanceState": (0,),
    "nvmlDeviceGetCurrentClocksEventReasons": (0x1,),
    "nvmlDeviceGetNumFans": (1,),
    "nvmlDeviceGetFanSpeed_v2": (30,),
    "nvmlDeviceGetTotalEccErrors": (0,),
    "nvmlDeviceGetRemappedRows": (0, 0, 0, 0),
    "nvmlDeviceGetCurrPcieLinkGeneration": (5,),
    "nvmlDeviceGetMaxPcieLinkGeneration": (5,),
    "nvmlDeviceGetCurrPcieLinkWidth": (16,),
    "nvmlDeviceGetMaxPcieLinkWidth": (16,),
    "nvmlDeviceGetMigMode": (0, 0),
    "nvmlDeviceGetSupportedEventTypes": (65_439,),
    "nvmlDeviceRegisterEvents": (),
    "nvmlEventSetFree": (),
}


class Load:
    """What the made-up card does at a time, in seconds from its beginning."""

    def busy(self, at: float) -> float:
        """Return the seconds of work from the beginning to `at`."""
        whole, rest = divmod(max(at, 0.0), PERIOD_SECONDS)
        return whole * BURST_SECONDS + min(rest, BURST_SECONDS)

    def share(self, since: float, until: float) -> float:
        return (self.busy(until) - self.busy(since)) / (until - since)

    def watts(self, at: float) -> float:
        works = math.fmod(at, PERIOD_SECONDS) < BURST_SECONDS
        return BURST_WATTS if works else IDLE_WATTS

    def joules(self, at: float) -> float:
        return IDLE_WATTS * at + (BURST_WATTS - IDLE_WATTS) * self.busy(at)


class _Function:
    """A C function as pynvml holds it; it may set `restype` on it."""

    def __init__(self, call: Callable[..., int]) -> None:
        self.restype: object = None
        self._call = call

    def __call__(self, *arguments: Any) -> int:
        return self._call(*arguments)


class SimulatedDriver:
    """The C functions that the exporter calls; any other is not there."""

    def __init__(
        self,
        cards: Sequence[SimulatedGpu] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cards: Sequence[SimulatedGpu] = (
            [SimulatedGpu()] if cards is None else cards
        )
        self._clock = clock
        # As if the card had been at work for an hour.
        self._began = clock() - 3600
        self._samples: dict[int, float] = {}
        self.load = Load()

    def __getattr__(self, name: str) -> _Function:
        # Only functions that the class has: pynvml takes an AttributeError for a
        # driver that is too old.
        if not name.startswith("nvml"):
            raise AttributeError(name)
        method = getattr(type(self), f"_{name}", None)
        if method is None:
            if name not in _FIXED:
                raise AttributeError(name)
            values = _FIXED[name]
            method = lambda _self, *given: _fill(given, values)  # noqa: E731
        return _Function(lambda *given: self.call(name, method, *given))

    def call(self, name: str, method: Callable[..., int], *given: Any) -> int:
        """Run one function; a test's library puts faults before it."""
        del name
        return method(self, *given)

    def now(self) -> float:
        return self._clock() - self._began

    def card(self, handle: Any) -> SimulatedGpu:
        return self.cards[_address(handle) - HANDLES]

    # The library and its cards

    def _nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:
        return _say(text, "580.159.04")

    def _nvmlSystemGetProcessName(self, pid: Any, text: Any, size: Any) -> int:
        return _say(text, "/usr/bin/ollama runner")

    def _nvmlDeviceGetCount_v2(self, count: Any) -> int:
        return _set(count, len(self.cards))

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        return _point(device, HANDLES + index.value)

    def _nvmlDeviceGetUUID(self, handle: Any, text: Any, size: Any) -> int:
        return _say(text, self.card(handle).uuid)

    def _nvmlDeviceGetName(self, handle: Any, text: Any, size: Any) -> int:
        return _say(text, self.card(handle).name)

    def _nvmlDeviceGetVbiosVersion(self, handle: Any, text: Any, size: Any) -> int:
        return _say(text, "96.00.99.00.01")

    def _nvmlDeviceGetPciInfo_v3(self, handle: Any, info: Any) -> int:
        info._obj.busId = f"00000000:{self.card(handle).index:02X}:00.0".encode()
        return SUCCESS

    def _nvmlDeviceGetCudaComputeCapability(
        self, handle: Any, major: Any, minor: Any
    ) -> int:
        _set(major, self.card(handle).compute_capability[0])
        return _set(minor, self.card(handle).compute_capability[1])

    # What it does now

    def _nvmlDeviceGetTemperature(self, handle: Any, sensor: Any, out: Any) -> int:
        return _set(out, 40 + self.card(handle).index)

    def _nvmlDeviceGetTemperatureThreshold(
        self, handle: Any, kind: Any, out: Any
    ) -> int:
        return _set(out, {0: 92, 1: 89}[kind.value])

    def _nvmlDeviceGetPowerUsage(self, handle: Any, out: Any) -> int:
        now = self.now()
        mean = self.load.joules(now) - self.load.joules(now - 1)
        return _set(out, round(mean * 1000))

    def _nvmlDeviceGetUtilizationRates(self, handle: Any, out: Any) -> int:
        now = self.now()
        out._obj.gpu = round(100 * self.load.share(now - 0.2, now))
        out._obj.memory = out._obj.gpu // 2
        return SUCCESS

    def _nvmlDeviceGetMemoryInfo_v2(self, handle: Any, out: Any) -> int:
        card = self.card(handle)
        out._obj.total, out._obj.used = card.total, card.used
        out._obj.reserved = card.reserved
        out._obj.free = card.total - card.used - card.reserved
        return SUCCESS

    def _nvmlDeviceGetClockInfo(self, handle: Any, kind: Any, out: Any) -> int:
        return _set(out, {0: 1965, 1: 1980, 2: 3201, 3: 1545}[kind.value])

    def _nvmlDeviceGetMaxClockInfo(self, handle: Any, kind: Any, out: Any) -> int:
        return _set(out, {0: 1980, 1: 1980, 2: 3201, 3: 1545}[kind.value])

    def _nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, out: Any) -> int:
        return _set(out, round(self.load.joules(self.now()) * 1000))

    def _nvmlDeviceGetNvLinkState(self, handle: Any, link: Any, out: Any) -> int:
        number = getattr(link, "value", link)
        return _set(out, 1) if number < 2 else NOT_SUPPORTED

    def _nvmlDeviceGetComputeRunningProcesses_v3(
        self, handle: Any, count: Any, found: Any
    ) -> int:
        if found is None:
            _set(count, 1)
            return INSUFFICIENT_SIZE
        found[0].pid, found[0].usedGpuMemory = 4242, 28 * GIB
        return _set(count, 1)

    def _nvmlDeviceGetProcessUtilization(
        self, handle: Any, found: Any, count: Any, since: Any
    ) -> int:
        if found is None:
            _set(count, 1)
            return INSUFFICIENT_SIZE
        found[0].pid, found[0].smUtil, found[0].timeStamp = 4242, 10, 1
        return _set(count, 1)

    # What it remembers

    def _nvmlDeviceGetSamples(
        self, handle: Any, kind: Any, since: Any, of: Any, count: Any, found: Any
    ) -> int:
        made = self.samples(kind.value, since.value)
        if made is None:
            return NOT_SUPPORTED
        _set(of, UNSIGNED_INT)
        if not made:
            return NOT_FOUND
        if found is not None:
            made = made[: len(found)]
            for place, (stamp, value) in enumerate(made):
                found[place].timeStamp = stamp
                found[place].sampleValue.uiVal = value
        return _set(count, len(made))

    def samples(self, kind: int, since: int) -> list[tuple[int, int]] | None:
        """Return the buffer's samples after `since`; None where there is none."""
        step = {0: POWER_STEP, 1: UTILIZATION_STEP, 2: UTILIZATION_STEP}.get(kind)
        if step is None:
            return None
        kept = 119 if kind == 0 else 71
        last = int(self.now() * 1e6) // step
        stamps = [each * step for each in range(max(last - kept, 1), last + 1)]
        return [(at, self._sample(kind, at, step)) for at in stamps if at > since]

    def _sample(self, kind: int, at: int, step: int) -> int:
        if kind == 0:
            return round(self.load.watts(at / 1e6) * 1000)
        share = self.load.share((at - step) / 1e6, at / 1e6)
        return round(100 * share) // (1 if kind == 1 else 2)

    def _nvmlDeviceGetFieldValues(self, handle: Any, count: Any, out: Any) -> int:
        for each in out._obj:
            value = self.field(self.card(handle), each.fieldId)
            each.nvmlReturn = NOT_SUPPORTED if value is None else SUCCESS
            each.valueType = UNSIGNED_LONG_LONG
            each.value.ullVal = value or 0
        return SUCCESS

    def field(self, card: SimulatedGpu, number: int) -> int | None:
        """Return a numbered field's value; None where there is none."""
        if number == 186:
            return round(self.load.watts(self.now()) * 1000)
        return card.fields.get(number)

    # Activity

    def _nvmlGpmQueryDeviceSupport(self, handle: Any, out: Any) -> int:
        out._obj.isSupportedDevice = 1
        return SUCCESS

    def _nvmlGpmSampleAlloc(self, out: Any) -> int:
        address = 0x8000 + len(self._samples)
        self._samples[address] = 0.0
        return _point(out, address)

    def _nvmlGpmSampleFree(self, sample: Any) -> int:
        self._samples.pop(_address(sample), None)
        return SUCCESS

    def _nvmlGpmSampleGet(self, handle: Any, sample: Any) -> int:
        self._samples[_address(sample)] = self.now()
        return SUCCESS

    def _nvmlGpmMetricsGet(self, request: Any) -> int:
        asked = request._obj
        since = self._samples[_address(asked.sample1)]
        until = self._samples[_address(asked.sample2)]
        share = self.load.share(since, until) if until > since else 0.0
        for each in asked.metrics[: asked.numMetrics]:
            each.nvmlReturn = SUCCESS
            each.value = 100 * share * {5: 0.4, 10: 0.7}.get(each.metricId, 1.0)
        return SUCCESS

    # Events: none ever come

    def _nvmlEventSetCreate(self, out: Any) -> int:
        return _point(out, 0xE000)

    def _nvmlEventSetWait_v2(self, events: Any, data: Any, milliseconds: Any) -> int:
        time.sleep(milliseconds.value / 1000)
        return TIMEOUT


def _set(out: Any, value: int) -> int:
    """Write a number where a C pointer points to."""
    out._obj.value = value
    return SUCCESS


def _fill(given: Sequence[Any], values: Sequence[int]) -> int:
    """Write numbers where the last of the given C pointers point to."""
    for out, value in zip(given[len(given) - len(values) :], values, strict=True):
        _set(out, value)
    return SUCCESS


def _say(buffer: Any, text: str) -> int:
    buffer.value = text.encode()
    return SUCCESS


def _point(out: Any, address: int) -> int:
    """Make an opaque handle, which pynvml passes by reference."""
    ctypes.c_void_p.from_buffer(out._obj).value = address
    return SUCCESS


def _address(handle: Any) -> int:
    return int(ctypes.c_void_p.from_buffer(handle).value or 0)
