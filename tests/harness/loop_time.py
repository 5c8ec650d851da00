"""How long the event loop's thread computes between two switches of greenlets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import greenlet

from tests.harness.poll import until

__all__ = ["LoopTime", "RouterLoopTime", "loop_time"]


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


class RouterLoopTime:
    """That of a router's process, which `tests.harness.measured:app` writes down."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.env = {"INFEROPS_TEST_MEASURE": str(file)}

    def begin(self) -> None:
        """Measure from now on."""
        self._file.unlink(missing_ok=True)
        until(self._file.exists, "the event loop is measured")

    @property
    def longest(self) -> float:
        return float(json.loads(self._file.read_text())["longest"])


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
