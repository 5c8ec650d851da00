"""Reads a SQLite file that cannot be opened in place, from a copy.

On a full or read-only disk SQLite cannot create the files that WAL mode needs. A copy
in memory needs nothing of that disk and leaves the original untouched.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from router.errors import StateError

_MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
_MOST_BYTES = 256 * 1024 * 1024


@contextlib.contextmanager
def opened_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect to a copy of the file. Raises StateError."""
    try:
        with _copy(path) as name:
            connection = sqlite3.connect(name, uri=True)
            with contextlib.closing(connection) as database:
                yield database
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"{path}: {error}") from error


@contextlib.contextmanager
def _copy(path: Path) -> Iterator[str]:
    if path.stat().st_size > _MOST_BYTES:
        raise OSError(f"over {_MOST_BYTES} bytes")
    try:
        folder = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
    except OSError:
        # As it is on the disk; what stands only in the WAL is not in it.
        yield f"{path.resolve().as_uri()}?immutable=1"
        return
    with folder as name:
        copy = Path(name) / path.name
        shutil.copyfile(path, copy)
        wal = path.with_name(f"{path.name}-wal")
        if wal.is_file():
            shutil.copyfile(wal, copy.with_name(wal.name))
        yield copy.as_uri()
