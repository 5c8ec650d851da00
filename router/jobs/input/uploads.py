"""Uploaded files on disk: written as drafts, then moved into place atomically.

All disk access runs in a native thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, TypeVar

from router.errors import DiskFullError, NotFoundError, UnavailableError
from router.jobs.input.room import Room
from router.runtime.threads import DISK

T = TypeVar("T")

_PIECE_BYTES = 256 * 1024
_DRAFT = ".part"
# A draft that has not grown for so long is abandoned.
_ABANDONED_SECONDS = 86_400.0


in_thread = DISK  # out of the event loop's way


def new_file_id() -> str:
    return f"file-{secrets.token_hex(12)}"


class PendingUpload:
    """A file that is arriving. End it by `keep` or `discard`, or by both in order."""

    def __init__(self, path: Path, out: IO[bytes], room: Room | None = None) -> None:
        self.path = path
        self.size = 0
        self._room = room
        self._out: IO[bytes] | None = out
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._written = 0

    def write(self, piece: bytes) -> None:
        """Raises DiskFullError, UnavailableError."""
        self.size += len(piece)
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= _PIECE_BYTES:
            self._flush()

    def _flush(self) -> None:
        data, self._pieces, self._gathered = b"".join(self._pieces), [], 0
        out = self._out
        assert out is not None  # noqa: S101 - nobody writes to what is over

        def write() -> None:
            if self._room is not None:
                self._room.check(len(data), self._written)
            out.write(data)

        on_disk(write)
        self._written += len(data)

    def seal(self) -> None:
        """Write all of it to disk, still under the draft's name."""
        self._flush()
        out, self._out = self._out, None
        assert out is not None  # noqa: S101 - sealed once

        def close() -> None:
            with out:
                out.flush()
                os.fsync(out.fileno())

        on_disk(close)

    def keep(self, path: Path) -> None:
        """Move it to its final path; durable on return."""
        if self._room is not None:
            self._room.added(self.size)

        def place() -> None:
            self.path.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

        on_disk(place)

    def discard(self) -> None:
        out, self._out = self._out, None

        def drop() -> None:
            if out is not None:
                with contextlib.suppress(OSError):
                    out.close()
            self.path.unlink(missing_ok=True)

        with contextlib.suppress(OSError):
            in_thread(drop)


class Uploads:
    """The folder of files, each named by its id."""

    def __init__(self, folder: Path, room: Room | None = None) -> None:
        self._folder = folder
        self._room = room

    def draft(self) -> PendingUpload:
        """Raises DiskFullError, UnavailableError."""
        path = self._folder / f"{secrets.token_hex(12)}{_DRAFT}"

        def begin() -> IO[bytes]:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._room is not None:
                self._room.check()
            return path.open("xb")

        return PendingUpload(path, on_disk(begin), self._room)

    def check_room(self, size: int = 0) -> None:
        """Raise DiskFullError if so many more bytes must not be accepted."""
        room = self._room
        if room is not None:
            on_disk(lambda: room.check(size))

    def path(self, file: str) -> Path:
        return self._folder / file

    def here(self, file: str) -> bool:
        return self.path(file).exists()

    def remove(self, file: str) -> None:
        on_disk(lambda: self.path(file).unlink(missing_ok=True))

    def pieces(self, file: str) -> Iterator[bytes]:
        """Yield a file's bytes. Raises NotFoundError before the first."""
        try:
            return pieces_of(self.path(file))
        except NotFoundError as error:
            raise NotFoundError(f"the bytes of file {file!r} are not here") from error

    def sweep(self, known: Callable[[list[str]], Collection[str]]) -> int:
        """Remove old files that are not in the table; return how many."""
        names = in_thread(self._settled)
        ids = [name for name in names if not name.endswith(_DRAFT)]
        strangers = set(names) - set(known(ids))
        for name in strangers:
            self.remove(name)
        return len(strangers)

    def _settled(self) -> list[str]:
        """Return files that are not fresh: a file is written just before its row."""
        horizon = time.time() - _ABANDONED_SECONDS
        if not self._folder.is_dir():
            return []
        return [
            entry.name
            for entry in os.scandir(self._folder)
            if entry.is_file() and entry.stat().st_mtime < horizon
        ]


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, a MiB at a time. Raises NotFoundError before the first."""
    return _read(on_disk(lambda: path.open("rb")))


def _read(source: IO[bytes]) -> Iterator[bytes]:
    try:
        while piece := in_thread(lambda: source.read(_PIECE_BYTES)):
            yield piece
    finally:
        in_thread(source.close)


def on_disk(call: Callable[[], T]) -> T:
    """Run it in a native thread.

    Raises DiskFullError, NotFoundError, UnavailableError.
    """
    try:
        return in_thread(call)
    except FileNotFoundError as error:
        raise NotFoundError("the file is not here") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            text = "the router's disk is full; nothing of this was kept"
            raise DiskFullError(text) from error
        raise UnavailableError(
            f"the router's disk fails: {error.strerror}", retry_after_seconds=5
        ) from error
