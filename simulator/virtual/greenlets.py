"""Greenlets that wait in virtual time, as the router's do in real time.

The clock's loop is their hub: a request runs until it sleeps, and is woken by an event
of the clock, never from inside another request.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from greenlet import getcurrent, greenlet

from router.model import Outcome
from router.runtime.cancellation import Cancellation
from simulator.virtual.clock import Clock


def spawn(clock: Clock, when: float, run: Callable[[], object]) -> None:
    """Begin a greenlet at a time."""
    clock.at(when, lambda: greenlet(run).switch())


class VirtualCancellation(Cancellation):
    """Wakes a request's greenlet by events of the clock."""

    __slots__ = ("_clock", "_nudged", "_sleeper", "_sleeps")

    def __init__(self, clock: Clock) -> None:
        self.stopped = None
        self._clock = clock
        self._nudged = False
        self._sleeper: greenlet | None = None
        self._sleeps = 0

    def wake(self) -> None:
        self._nudged = True
        self._wake()

    def stop(self, outcome: Outcome) -> None:
        self.stopped = self.stopped or outcome
        self.wake()

    def sleep(self, seconds: float | None) -> None:
        if self.stopped is None and not self._nudged:
            self._sleeps += 1
            self._sleeper = sleeper = getcurrent()
            if seconds is not None and seconds < inf:
                sleep = self._sleeps
                due = self._clock.now + seconds
                self._clock.at(due, lambda: self._over(sleep))
            assert sleeper.parent is not None
            sleeper.parent.switch()
        self._nudged = False

    def _over(self, sleep: int) -> None:
        if sleep == self._sleeps and self._sleeper is not None:
            sleeper, self._sleeper = self._sleeper, None
            sleeper.switch()

    def _wake(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            self._clock.at(self._clock.now, sleeper.switch)
