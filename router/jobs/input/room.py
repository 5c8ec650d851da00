"""Checks that there is room for new jobs and files: a quota, and free disk space.

Accepted jobs continue without room.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from router.errors import DiskFullError

_SHARE = 10  # on a small disk, at most a tenth must stay free


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """stored_bytes: of all jobs and files; free_bytes: that stay free on the disk."""

    stored_bytes: int
    free_bytes: int


class Room:
    """Counts stored bytes; the figure is at most a minute old, and never too small."""

    def __init__(self, folder: Path, limits: Callable[[], RoomLimits]) -> None:
        self._folder = folder
        self._limits = limits
        self._measured = 0
        self._since = 0

    def measure(self, measured: Callable[[], int]) -> None:
        """Measure the stored bytes; what is accepted meanwhile is added."""
        before = self._since
        self._measured = measured()
        self._since -= before

    def added(self, size: int) -> None:
        """Count bytes accepted since the last measurement."""
        self._since += size

    def check(self, size: int = 0, written: int = 0) -> None:
        """Raise DiskFullError if so many more bytes must not be accepted.

        written: bytes of the same upload that are already on disk
        Accesses the disk: call it in a native thread.
        """
        limits = self._limits()
        kept = self._measured + self._since
        if kept + written + size > limits.stored_bytes:
            raise DiskFullError(
                f"jobs and files take {kept:,} bytes, at most {limits.stored_bytes:,}"
                " are kept (jobs.max_stored_bytes); delete jobs or files"
            )
        usage = shutil.disk_usage(self._existing())
        floor = min(limits.free_bytes, usage.total // _SHARE)
        if usage.free - size < floor:
            raise DiskFullError(
                f"the router's disk has {usage.free:,} bytes free, less than"
                f" {floor:,} must not be left (jobs.min_free_bytes): nothing new is"
                " accepted, what was accepted goes on"
            )

    def _existing(self) -> Path:
        """Return the folder, or the nearest parent that exists."""
        return next(
            path for path in (self._folder, *self._folder.parents) if path.exists()
        )
