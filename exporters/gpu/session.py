"""The library from one nvmlInit to the next, and what opens it again.

A card that was lost comes back only through a new nvmlInit; events of the others are
missed meanwhile, so not at once. While a thread is inside the driver it is not done.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass

from exporters import logs
from exporters.gpu.card import Gpu, Setting
from exporters.gpu.instances import parts
from exporters.gpu.loops import State
from exporters.gpu.selection import Identity, Selection, choose
from exporters.nvml_library import (
    Meaning,
    Nvml,
    NvmlError,
    closed_devices,
    describe,
    is_forbidden,
    meaning,
)

log = logs.get(__name__)

REOPEN_SECONDS = 60.0
RETRY_SECONDS = 10.0
END_SECONDS = 2.0  # more than an event is waited for


@dataclass(frozen=True, slots=True)
class Opened:
    """What there is while the library is open.

    listed: how many GPUs the driver lists, those included that are not read
    faults: what was selected and is not there
    """

    cards: tuple[Gpu, ...]
    listed: int
    faults: tuple[str, ...] = ()


class Session:
    """Opens, watches and closes; `step` is called by one thread, the rest by any.

    opened: None while the library is not
    fault: why it is not, None where it may be
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._selection = Selection(None, "default")
        self.opened: Opened | None = None
        self.fault: str | None = None
        self.settled = threading.Event()
        self._next = 0.0
        self._closing = False

    @property
    def cards(self) -> tuple[Gpu, ...]:
        opened = self.opened
        return opened.cards if opened else ()

    def step(self) -> None:
        """See to it that the library is open, and opened anew where that mends."""
        now = self._setting.clock()
        if self.opened and (gone := self._gone()) is not None:
            self._close(f"the library is gone: {describe(gone)}")
        elif self.opened and now >= self._next and self._outdated(self.opened, now):
            self._close(None)
        if not self.opened and not self._closing and now >= self._next:
            self._try(now)
        if not self.opened or all(card.settled(now) for card in self.cards):
            self.settled.set()

    def _try(self, now: float) -> None:
        self._next = now + RETRY_SECONDS
        try:
            self.opened = self._open()
        except NvmlError as error:
            self.fault = f"the library cannot be opened: {_why(error)}"
            self._setting.renew()
            return
        self.fault = None
        self._next = now + REOPEN_SECONDS
        for card in self.opened.cards:
            card.begin()

    def _open(self) -> Opened:
        nvml = self._setting.nvml
        nvml.nvmlInit()
        try:
            return self._list(nvml)
        except NvmlError:
            with suppress(NvmlError):
                nvml.nvmlShutdown()
            raise

    def _list(self, nvml: Nvml) -> Opened:
        driver = nvml.nvmlSystemGetDriverVersion()
        count = nvml.nvmlDeviceGetCount()
        self._selection = self._setting.select() or self._selection
        chosen = choose(self._selection, count, lambda index: _identity(nvml, index))
        if not self._selection.everything:
            source, gpus = self._selection.source, ",".join(map(str, chosen.indices))
            log.info("gpus_selected", source=source, gpus=gpus, listed=count)
        cards = tuple(Gpu(self._setting, index, driver) for index in chosen.indices)
        return Opened(cards, count, chosen.faults)

    def _gone(self) -> NvmlError | None:
        errors = [card.error() for card in self.cards]
        return next((e for e in errors if e and meaning(e) is Meaning.GONE), None)

    def _outdated(self, opened: Opened, now: float) -> bool:
        """Whether reopening the library would mend something."""
        # Where one card hangs the library cannot be closed, and the others go on.
        loops = [loop for card in opened.cards for loop in card.loops]
        if any(loop.state(now) is State.HANGS for loop in loops):
            return False
        return any(loop.reason for loop in loops) or self._chooses_others(opened, now)

    def _chooses_others(self, opened: Opened, now: float) -> bool:
        if opened.listed > 1 or not self._selection.everything:
            selection = self._setting.select()
            if selection is not None and selection != self._selection:
                return True
        self._next = now + REOPEN_SECONDS
        return False

    def _close(self, fault: str | None, seconds: float = 0.0) -> None:
        """Close the library; not while a thread is still inside of it."""
        for card in self.cards:
            card.end()
        if not all(card.ended(seconds) for card in self.cards):
            return
        self.opened = None
        self.fault = fault
        self._next = self._setting.clock()
        with suppress(NvmlError):
            self._setting.nvml.nvmlShutdown()

    def end(self) -> bool:
        """Close for good; False where a thread is still inside of the library."""
        self._closing = True
        self._close("closed", END_SECONDS)
        return self.opened is None


def _why(error: NvmlError) -> str:
    closed = closed_devices() if is_forbidden(error) else []
    hint = f" (no access to {', '.join(closed)}: see its group)" if closed else ""
    return f"{describe(error)}{hint}"


def _identity(nvml: Nvml, index: int) -> Identity | None:
    """Ask a GPU who it is; None where it does not answer."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    except NvmlError as error:
        if meaning(error) is Meaning.GONE:
            raise
        return None
    instances: tuple[str, ...] = ()
    with suppress(NvmlError):  # a card that cannot be cut
        instances = tuple(uuid for uuid, _ in parts(nvml, handle))
    return Identity(uuid, name, instances)
