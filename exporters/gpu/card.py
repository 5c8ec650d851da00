"""One card: its samplers and their threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exporters.gpu import facts
from exporters.gpu.events import EventLog, EventWatch
from exporters.gpu.facts import DeviceInfo
from exporters.gpu.fast import Fast
from exporters.gpu.loops import Loop, Spawn, State
from exporters.gpu.probes import Troubles
from exporters.gpu.selection import Selection
from exporters.gpu.settings import GpuSettings
from exporters.gpu.slow import Slow
from exporters.nvml_library import Handle, Nvml, NvmlError

SLOW_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cards of one exporter have in common.

    select: says which cards are read; None where nothing new is known
    renew: called when the library cannot be opened
    """

    nvml: Nvml
    choice: GpuSettings
    events: EventLog
    clock: Callable[[], float]
    wall: Callable[[], float]
    spawn: Spawn
    select: Callable[[], Selection | None] = lambda: None
    renew: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is once the card has told its identity."""

    facts: DeviceInfo
    fast: Fast
    slow: Slow


class Gpu:
    """A device by its index; each call of it is made on threads of its own.

    So a card that hangs, even at its opening, holds up no other one.
    """

    def __init__(self, setting: Setting, index: int, driver: str) -> None:
        self._setting = setting
        self.index = index
        self._driver = driver
        self.troubles = Troubles()
        self.parts: Parts | None = None
        self._slow = self._loop("slow", self._slow_step, SLOW_TICK_SECONDS, self._end)
        self.loops: tuple[Loop, ...] = (self._slow,)
        self._ending = False

    def begin(self) -> None:
        self._setting.spawn(self._slow)

    def _loop(
        self,
        name: str,
        step: Callable[[], None],
        interval: float,
        ended: Callable[[], None] = lambda: None,
    ) -> Loop:
        return Loop(
            name,
            step,
            interval=interval,
            clock=self._setting.clock,
            wall=self._setting.wall,
            ended=ended,
        )

    def _slow_step(self) -> None:
        parts = self.parts
        if parts is None:
            parts = self._open()
        parts.slow.step(self._setting.clock())

    def _end(self) -> None:
        if self.parts is not None:
            self.parts.slow.end()

    def _open(self) -> Parts:
        setting = self._setting
        nvml, choice = setting.nvml, setting.choice
        handle = nvml.nvmlDeviceGetHandleByIndex(self.index)
        about = facts.read(nvml, handle, self.index, self._driver)
        fast = Fast(
            nvml,
            handle,
            self.troubles,
            clock=setting.clock,
            wall=setting.wall,
            window_seconds=choice.window_seconds,
        )
        slow = Slow(
            nvml, handle, about.uuid, self.troubles, by_process=choice.by_process
        )
        loops = [self._slow, self._loop("fast", fast.step, choice.tick_seconds)]
        watch = self._watch(handle, about.uuid)
        if watch is not None:
            loops.append(self._loop("events", watch.step, 0.0, watch.end))
        self.loops = tuple(loops)
        self.parts = parts = Parts(about, fast, slow)
        # `end` may have been called while the opening hung: these end at once then.
        if self._ending:
            self.end()
        for loop in loops[1:]:
            setting.spawn(loop)
        return parts

    def _watch(self, handle: Handle, uuid: str) -> EventWatch | None:
        try:
            return EventWatch(self._setting.nvml, handle, uuid, self._setting.events)
        except NvmlError as error:
            self.troubles.note("nvmlDeviceRegisterEvents", error)
            return None

    def settled(self, now: float) -> bool:
        """Whether each sampler has had its first turn, or will not."""
        states = {loop.state(now) for loop in self.loops if loop.name != "events"}
        return State.WAITING not in states or State.ENDED in states

    def error(self) -> NvmlError | None:
        """Return what the library said when a sampler ended of it."""
        return next((each.error for each in self.loops if each.error), None)

    def end(self) -> None:
        self._ending = True
        for loop in self.loops:
            loop.end()

    def ended(self, seconds: float) -> bool:
        """Whether its threads have ended; not where the driver keeps hold of one."""
        # The slow sampler's first: it is the one that begins the others.
        return self._slow.ended(seconds) and all(
            loop.ended(seconds) for loop in self.loops
        )
