"""A small disk of one's own that can be full or read-only; needs root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.poll import until


class Disk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take every byte of it."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def empty(self) -> None:
        """Give what `fill` took back."""
        self._filler.unlink()

    def read_only(self, *, on: bool) -> None:
        """Have it take no writes; waits for the last process that has a file open."""
        options = "remount,ro" if on else "remount,rw"
        command = ["mount", "-o", options, str(self.folder)]
        until(
            lambda: (
                subprocess.run(command, capture_output=True, check=False).returncode
                == 0
            ),
            f"it is mounted anew: {options}",
        )


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 16) -> Iterator[Disk]:
    """Mount one, and unmount it for sure; skips the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"needs a mount of its own: {mounted.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
