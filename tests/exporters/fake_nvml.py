"""The simulated driver with faults put before it: where ctypes calls, below pynvml.

Any C function may fail with any code, for one card or for all, hang, or be missing,
as in an older driver. Cards may be lost, cut by MIG, and have events.
"""

# ruff: noqa: N802 - the functions have the library's own names

from __future__ import annotations

import ctypes
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml

from simulator.gpu_driver import (
    HANDLES,
    SUCCESS,
    TIMEOUT,
    SimulatedDriver,
    SimulatedGpu,
    _address,
    _point,
    _say,
    _set,
)

PARTS = 0x2000  # MIG handles: + 0x100 for each card, + 1 for each instance
EVENT_SETS = 0xE000


@dataclass
class FakeInstance:
    """A MIG instance of 1/7 of a card."""

    gpu_instance: int
    compute_instance: int = 0
    profile: str = "1g.18gb"
    total: int = 18_000_000_000
    used: int = 5_000_000_000


@dataclass
class FakeCard(SimulatedGpu):
    """A card that may have faults; `fails` maps a C function, or a field, to a code."""

    name: str = "NVIDIA H200"
    fails: dict[str | int, int] = field(default_factory=dict)
    lost: bool = False
    hangs: bool = False
    instances: list[FakeInstance] = field(default_factory=list)
    events: queue.Queue[tuple[int, int]] = field(default_factory=queue.Queue)

    def xid(self, code: int) -> None:
        self.events.put((pynvml.nvmlEventTypeXidCriticalError, code))


def cards(count: int) -> list[FakeCard]:
    return [
        FakeCard(index, f"GPU-{index:08x}-0000-0000-0000-000000000000")
        for index in range(count)
    ]


class FakeLibrary(SimulatedDriver):
    """The library; `gone` makes each call fail with that code.

    patient: whether waiting for an event takes real time
    """

    def __init__(
        self,
        made: Iterable[FakeCard],
        clock: Callable[[], float],
        *,
        patient: bool = True,
    ) -> None:
        self.cards: list[FakeCard] = list(made)
        super().__init__(self.cards, clock)
        self.gone: int | None = None
        self.missing: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.open_sets = 0
        self.let_go = threading.Event()
        self.hang_file: Path | None = None
        self._sets: dict[int, FakeCard] = {}
        self._patient = patient

    def __getattr__(self, name: str) -> Any:
        if name in self.missing:
            raise AttributeError(name)
        return super().__getattr__(name)

    def call(self, name: str, method: Callable[..., int], *given: Any) -> int:
        self.calls[name] += 1
        card = self._of(name, given)
        if card is not None:
            self._hang(card)
        if self.gone is not None and name not in {"nvmlShutdown", "nvmlEventSetFree"}:
            return self.gone
        if card is not None and card.lost:
            return pynvml.NVML_ERROR_GPU_IS_LOST
        if card is not None and name in card.fails:
            return card.fails[name]
        if self._destroyed(given):
            return pynvml.NVML_ERROR_GPU_IS_LOST
        return method(self, *given)

    def _hang(self, card: FakeCard) -> None:
        if self.hang_file is not None:  # of another process
            while card.hangs and self.hang_file.exists():
                self.let_go.wait(0.05)
        elif card.hangs:
            assert self.let_go.wait(60)

    def _of(self, name: str, given: tuple[Any, ...]) -> FakeCard | None:
        """Return the card that a call is about."""
        if name == "nvmlDeviceGetHandleByIndex_v2":
            return self.cards[given[0].value]
        if name == "nvmlEventSetWait_v2":
            return None  # looks for itself, after it has waited
        if name.startswith(("nvmlDevice", "nvmlGpmSampleGet", "nvmlGpmMig")) and given:
            return self.card(given[0]) if _is_handle(given[0]) else None
        return None

    def card(self, handle: Any) -> FakeCard:
        address = _address(handle)
        if address >= PARTS:
            return self.cards[(address - PARTS) // 0x100]
        return self.cards[address - HANDLES]

    def part(self, handle: Any) -> FakeInstance | None:
        """Return the instance that a handle stands for; None for a whole card."""
        address = _address(handle)
        if address < PARTS:
            return None
        return self.card(handle).instances[(address - PARTS) % 0x100]

    def _destroyed(self, given: tuple[Any, ...]) -> bool:
        """Whether a call is about a MIG instance that is there no more."""
        if not given or not _is_handle(given[0]):
            return False
        place = _address(given[0]) - PARTS
        if not 0 <= place < 0x1000:
            return False
        return place % 0x100 >= len(self.cards[place // 0x100].instances)

    def _nvmlDeviceGetFieldValues(self, handle: Any, count: Any, out: Any) -> int:
        super()._nvmlDeviceGetFieldValues(handle, count, out)
        for each in out._obj:
            fails = self.card(handle).fails
            each.nvmlReturn = fails.get(each.fieldId, each.nvmlReturn)
        return SUCCESS

    # MIG

    def _nvmlDeviceGetMigMode(self, handle: Any, current: Any, pending: Any) -> int:
        _set(pending, 0)
        return _set(current, int(bool(self.card(handle).instances)))

    def _nvmlDeviceGetMaxMigDeviceCount(self, handle: Any, out: Any) -> int:
        return _set(out, 7)

    def _nvmlDeviceGetMigDeviceHandleByIndex(
        self, handle: Any, index: Any, out: Any
    ) -> int:
        card = self.card(handle)
        if index.value >= len(card.instances):
            return pynvml.NVML_ERROR_NOT_FOUND
        return _point(out, PARTS + 0x100 * card.index + index.value)

    def _nvmlDeviceGetGpuInstanceId(self, handle: Any, out: Any) -> int:
        part = self.part(handle)
        assert part is not None
        return _set(out, part.gpu_instance)

    def _nvmlDeviceGetComputeInstanceId(self, handle: Any, out: Any) -> int:
        part = self.part(handle)
        assert part is not None
        return _set(out, part.compute_instance)

    def _nvmlDeviceGetUUID(self, handle: Any, text: Any, size: Any) -> int:
        part = self.part(handle)
        if part is None:
            return super()._nvmlDeviceGetUUID(handle, text, size)
        return _say(text, _part_uuid(self.card(handle), part))

    def _nvmlDeviceGetName(self, handle: Any, text: Any, size: Any) -> int:
        part = self.part(handle)
        if part is None:
            return super()._nvmlDeviceGetName(handle, text, size)
        return _say(text, f"{self.card(handle).name} MIG {part.profile}")

    def _nvmlDeviceGetMemoryInfo_v2(self, handle: Any, out: Any) -> int:
        part = self.part(handle)
        if part is None:
            return super()._nvmlDeviceGetMemoryInfo_v2(handle, out)
        out._obj.total, out._obj.used = part.total, part.used
        out._obj.free = part.total - part.used
        return SUCCESS

    def _nvmlGpmMigSampleGet(self, handle: Any, instance: Any, sample: Any) -> int:
        return self._nvmlGpmSampleGet(handle, sample)

    # Events

    def _nvmlEventSetCreate(self, out: Any) -> int:
        self.open_sets += 1
        return _point(out, EVENT_SETS + self.calls["nvmlEventSetCreate"])

    def _nvmlEventSetFree(self, events: Any) -> int:
        self.open_sets -= 1
        return SUCCESS

    def _nvmlDeviceRegisterEvents(self, handle: Any, kinds: Any, events: Any) -> int:
        self._sets[_address(events)] = self.card(handle)
        return SUCCESS

    def _nvmlEventSetWait_v2(self, events: Any, data: Any, milliseconds: Any) -> int:
        card = self._sets[_address(events)]
        try:
            seconds = milliseconds.value / 1000
            kind, code = card.events.get(self._patient, seconds)
        except queue.Empty:
            return self._nothing(card)
        data._obj.eventType, data._obj.eventData = kind, code
        return SUCCESS

    def _nothing(self, card: FakeCard) -> int:
        if self.gone is not None:
            return self.gone
        if card.lost:
            return pynvml.NVML_ERROR_GPU_IS_LOST
        return card.fails.get("nvmlEventSetWait_v2", TIMEOUT)


def _part_uuid(card: FakeCard, part: FakeInstance) -> str:
    return f"MIG-{card.index:08x}-{part.gpu_instance:04x}-{part.compute_instance:04x}"


def _is_handle(value: Any) -> bool:
    return isinstance(value, ctypes._Pointer)
