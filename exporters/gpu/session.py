"""The library from one nvmlInit to the next, and what opens it again.

A card that was lost comes back only through a new nvmlInit; events of the others are
missed meanwhile, so not at once. While a thread is inside the driver it is not done.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from exporters.gpu.card import Card, Setting
from exporters.gpu.loops import State
from exporters.nvml_library import Meaning, NvmlError, describe, meaning

REOPEN_SECONDS = 60.0
RETRY_SECONDS = 10.0
END_SECONDS = 2.0  # more than an event is waited for


class Session:
    """Opens, watches and closes; `step` is called by one thread, the rest by any.

    fault: why there are no cards, None where there may be
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.cards: tuple[Card, ...] = ()
        self.fault: str | None = None
        self.settled = threading.Event()
        self._open = False
        self._next = 0.0
        self._closing = False

    def step(self) -> None:
        """See to it that the library is open, and opened anew where that mends."""
        now = self._setting.clock()
        if self._open and (gone := self._gone()) is not None:
            self._close(f"the library is gone: {describe(gone)}")
        elif self._open and now >= self._next and self._mendable(now):
            self._close(None)
        if not self._open and not self._closing and now >= self._next:
            self._try(now)
        if not self._open or all(card.settled(now) for card in self.cards):
            self.settled.set()

    def _try(self, now: float) -> None:
        self._next = now + RETRY_SECONDS
        try:
            self._opened()
        except NvmlError as error:
            self.fault = f"the library cannot be opened: {describe(error)}"
            return
        self.fault = None
        self._open = True
        self._next = now + REOPEN_SECONDS
        for card in self.cards:
            card.begin()

    def _opened(self) -> None:
        nvml = self._setting.nvml
        nvml.nvmlInit()
        try:
            driver = nvml.nvmlSystemGetDriverVersion()
            count = nvml.nvmlDeviceGetCount()
        except NvmlError:
            with suppress(NvmlError):
                nvml.nvmlShutdown()
            raise
        self.cards = tuple(Card(self._setting, index, driver) for index in range(count))

    def _gone(self) -> NvmlError | None:
        errors = [card.error() for card in self.cards]
        return next((e for e in errors if e and meaning(e) is Meaning.GONE), None)

    def _mendable(self, now: float) -> bool:
        # Where one card hangs the library cannot be closed, and the others go on.
        loops = [loop for card in self.cards for loop in card.loops]
        hangs = any(loop.state(now) is State.HANGS for loop in loops)
        return not hangs and any(loop.reason for loop in loops)

    def _close(self, fault: str | None, seconds: float = 0.0) -> None:
        """Close the library; not while a thread is still inside of it."""
        for card in self.cards:
            card.end()
        if not all(card.ended(seconds) for card in self.cards):
            return
        self.cards = ()
        self.fault = fault
        self._open = False
        self._next = self._setting.clock()
        with suppress(NvmlError):
            self._setting.nvml.nvmlShutdown()

    def end(self) -> bool:
        """Close for good; False where a thread is still inside of the library."""
        self._closing = True
        self._close("closed", END_SECONDS)
        return not self._open
