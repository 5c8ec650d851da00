"""Least and greatest of a quantity over windows that the wall clock delimits.

Pure. Only a window that is over is told of, so every scraper reads the same and
knows what time it speaks of: never "since the last scrape".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exporters.gpu.rows import Row

WINDOW_SECONDS = 15.0

# Samples are drained up to a second after they were taken.
GRACE_SECONDS = 2.0

KEPT = 3  # the last whole one, the one in grace, the open one


@dataclass(slots=True)
class _Extremes:
    least: float
    greatest: float


class Windows:
    """The windows of late of one quantity.

    name: of its series, with `{}` where min or max stands
    """

    def __init__(self, name: str, seconds: float = WINDOW_SECONDS) -> None:
        self._name = name
        self._seconds = seconds
        self._found: dict[int, _Extremes] = {}
        self._first: int | None = None  # which was under way when we began

    def add(self, at: float, value: float) -> None:
        """Take in a value at a time of the wall clock."""
        index = int(at // self._seconds)
        if self._first is None:
            self._first = index
        found = self._found.get(index)
        if found is None:
            self._found[index] = _Extremes(value, value)
            while len(self._found) > KEPT:
                del self._found[min(self._found)]
        elif value < found.least:
            found.least = value
        elif value > found.greatest:
            found.greatest = value

    def rows(self, wall: float) -> Iterator[Row]:
        """Yield the last whole window's; nothing where it holds no value."""
        index = last_whole(wall, self._seconds)
        found = self._found.get(index)
        if found is not None and index != self._first:
            yield Row(self._name.format("min"), found.least)
            yield Row(self._name.format("max"), found.greatest)


def last_whole(wall: float, seconds: float) -> int:
    """Return the index of the last window whose samples have all been drained."""
    return int((wall - GRACE_SECONDS) // seconds) - 1


def window_rows(wall: float, seconds: float) -> Iterator[Row]:
    """Yield how long the windows are, and when the last whole one ended."""
    end = (last_whole(wall, seconds) + 1) * seconds
    yield Row("inferops_gpu_window_seconds", seconds)
    yield Row("inferops_gpu_window_end_timestamp_seconds", end)
