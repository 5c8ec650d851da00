"""A thread that calls one step again and again, and what can be told of it outside.

A call of the driver that hangs cannot be ended. It holds this one thread, `state`
says so to whoever asks, and nobody waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from exporters import logs
from exporters.nvml_library import NvmlError, describe

log = logs.get(__name__)

# One call of the driver may take seconds while a card is reset or woken.
STALL_SECONDS = 5.0


class State(StrEnum):
    """How a loop is doing."""

    WAITING = "waiting"  # not begun, or its first step is under way
    WORKS = "works"
    HANGS = "hangs"
    ENDED = "ended"


@dataclass(slots=True)
class Figures:
    """What a loop counts of itself; written by its own thread only."""

    steps: int = 0
    late: int = 0
    busy_seconds: float = 0.0
    last_success: float | None = None  # on the wall clock


class Loop:
    """Calls `step` each `interval` seconds (0: without a pause) until it raises.

    ended is called at the end, on the same thread.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], None],
        *,
        interval: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.interval = interval
        self.figures = Figures()
        self.error: NvmlError | None = None
        self.reason = ""  # why it ended, in words
        self._step = step
        self._clock = clock
        self._wall = wall
        self._at_end = ended
        self._stop = threading.Event()
        self._done = threading.Event()
        self._began: float | None = None

    def run(self) -> None:
        """Run until told to end, or until the step raises; on a thread of its own."""
        due = self._clock()
        while not self._stop.wait(max(0.0, due - self._clock())):
            late = self._clock() - due
            if late > self.interval > 0:
                self.figures.late += 1
                due += late
            if not self.once():
                return
            due += self.interval
        self.close()

    def once(self) -> bool:
        """Call the step once; False where that was the end of it."""
        began = self._began = self._clock()
        try:
            self._step()
        except NvmlError as error:
            self.error, self.reason = error, describe(error)
        except Exception as error:  # noqa: BLE001 - the loop's tick
            self.reason = f"{type(error).__name__}: {error}"
            log.warning("sampler_failed", sampler=self.name, error=self.reason)
        self.figures.steps += 1
        self.figures.busy_seconds += self._clock() - began
        if self.reason:
            self.close()
            return False
        self.figures.last_success = self._wall()
        self._began = None
        return True

    def close(self) -> None:
        """Call what is to be called at the end."""
        self._at_end()
        self._done.set()

    def state(self, now: float) -> State:
        if self._done.is_set():
            return State.ENDED
        began = self._began
        if began is not None and now - began > STALL_SECONDS:
            return State.HANGS
        if self.figures.last_success is None:
            return State.WAITING
        return State.WORKS

    def hanging(self, now: float) -> float:
        """Return for how long the step under way has been going on."""
        return 0.0 if self._began is None else now - self._began

    def end(self) -> None:
        """Ask the loop to end; `ended` waits for it."""
        self._stop.set()

    def ended(self, seconds: float) -> bool:
        """Whether it has ended; not where the driver keeps hold of the thread."""
        return self._done.wait(seconds)


Spawn = Callable[[Loop], None]


def spawn(loop: Loop) -> None:
    """Run a loop on a thread that keeps the process from nothing."""
    threading.Thread(target=loop.run, name=loop.name, daemon=True).start()
