"""Whether a new process would load another NVML than this one has loaded.

A driver that is upgraded without a reboot leaves every process with the library of the
old one, which then fails for ever: only a new process loads the new file. Run as a
program, this file is that new process. Where there is no /proc, nothing is known.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NAME = "libnvidia-ml.so"
MAPS = Path("/proc/self/maps")
CHILD_SECONDS = 10.0

File = tuple[int, ...]  # device, inode, size, time of change


def mapped() -> File | None:
    """Return the file of the library that this process has loaded."""
    with suppress(OSError):
        for line in MAPS.read_text(encoding="utf-8").splitlines():
            folder, slash, path = line.partition("/")
            if folder and Path(path).name.startswith(NAME):
                # One that is gone has "(deleted)" behind its name, and no status.
                found = Path(slash + path).stat()
                return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None


def of_a_new_process() -> File | None:
    """Return the file that a process started now loads; None where it loads none."""
    argv = [sys.executable, "-I", __file__]
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=CHILD_SECONDS, check=False
        )
        return tuple(map(int, done.stdout.split())) or None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def restart() -> None:
    """Become a new process of the same program, with the same arguments."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


class LibraryFile:
    """The library's file as it was when it was loaded."""

    def __init__(
        self,
        restart: Callable[[], None] = restart,
        *,
        mapped: Callable[[], File | None] = mapped,
        of_a_new_process: Callable[[], File | None] = of_a_new_process,
    ) -> None:
        self._restart = restart
        self._of_a_new_process = of_a_new_process
        self._loaded = mapped()

    def renew(self) -> None:
        """Restart the program where that brings another library."""
        if self._loaded is None:
            return
        found = self._of_a_new_process()
        if found is not None and found != self._loaded:
            self._restart()


if __name__ == "__main__":
    with suppress(OSError):
        ctypes.CDLL(f"{NAME}.1")
    print(*(mapped() or ()))  # noqa: T201 - to the process that asks
