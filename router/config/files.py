"""Reads files that a person names: small, regular files only.

Opening a named pipe waits for a writer, a device may never end, and a file named by
mistake may be larger than the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 8 * 1024 * 1024  # an inventory of some 40,000 nodes


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Read a small regular file. Raises OSError, UnicodeDecodeError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has over {most_bytes} bytes", str(path))
    return data.decode("utf-8")


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can enter, or make it and its files private.

    Folders inside it are out of reach with it. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    for entry in os.scandir(folder):
        if entry.is_file(follow_symlinks=False):
            Path(entry).chmod(0o600)
