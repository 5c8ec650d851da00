"""Whether there is room for anything new: quotas, and a floor of free disk.

What was accepted goes on, also below the floor.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from router.errors import DiskFullError

_SHARE = 10  # of a small disk, the floor is never more than this part


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """stored_bytes: of all jobs and files; free_bytes: that stay free on the disk."""

    stored_bytes: int
    free_bytes: int


class Room:
    """Counts what is kept; its figure is a minute old at most, and never too small."""

    def __init__(self, folder: Path, limits: Callable[[], RoomLimits]) -> None:
        self._folder = folder
        self._limits = limits
        self._measured = 0
        self._since = 0

    def measure(self, measured: Callable[[], int]) -> None:
        """Take note of what is kept; what is accepted meanwhile counts beside it."""
        before = self._since
        self._measured = measured()
        self._since -= before

    def added(self, size: int) -> None:
        """Take note of what was accepted since."""
        self._since += size

    def check(self, size: int = 0, written: int = 0) -> None:
        """Raise DiskFullError where so many bytes more must not be accepted.

        written: of what is being accepted, on the disk already
        Asks the disk: for a native thread.
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
        """Return the folder, or what it will be made in."""
        return next(
            path for path in (self._folder, *self._folder.parents) if path.exists()
        )
