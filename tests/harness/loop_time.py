"""How long the event loop's thread computes between two switches of greenlets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import greenlet

__all__ = ["LoopTime", "loop_time"]


class LoopTime:
    """Processor seconds: what other threads and other programs take is not counted."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.longest = 0.0
        self._since = time.thread_time()

    def switched(self, _event: str, _greenlets: object) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._since)
        self._since = now


@contextmanager
def loop_time() -> Iterator[LoopTime]:
    """Measure this thread's greenlets until the end of the block."""
    measure = LoopTime()
    before = greenlet.settrace(measure.switched)
    try:
        yield measure
        measure.switched("", ())
    finally:
        greenlet.settrace(before)
