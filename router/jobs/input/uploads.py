"""Uploaded files on the disk: written aside, then put in place at once.

Everything that touches the disk runs in a native thread.
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
from router.threads import DISK

T = TypeVar("T")

_PIECE_BYTES = 1024 * 1024
_DRAFT = ".part"
# A draft that nothing was added to for so long belongs to nobody.
_ABANDONED_SECONDS = 86_400.0


native = DISK  # out of the event loop's way


def new_file_id() -> str:
    return f"file-{secrets.token_hex(12)}"


class Draft:
    """A file that is arriving. Ends by `keep` or `discard`; the latter is harmless."""

    def __init__(self, path: Path, out: IO[bytes]) -> None:
        self.path = path
        self.size = 0
        self._out: IO[bytes] | None = out
        self._pieces: list[bytes] = []
        self._gathered = 0

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
        _on_disk(lambda: out.write(data))

    def seal(self) -> None:
        """Put all of it on the disk, still under the draft's name."""
        self._flush()
        out, self._out = self._out, None
        assert out is not None  # noqa: S101 - sealed once

        def close() -> None:
            with out:
                out.flush()
                os.fsync(out.fileno())

        _on_disk(close)

    def keep(self, path: Path) -> None:
        """Give it its name; on disk on return."""

        def place() -> None:
            self.path.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

        _on_disk(place)

    def discard(self) -> None:
        out, self._out = self._out, None

        def drop() -> None:
            if out is not None:
                with contextlib.suppress(OSError):
                    out.close()
            self.path.unlink(missing_ok=True)

        with contextlib.suppress(OSError):
            native(drop)


class Uploads:
    """The folder of files, each under its id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def draft(self) -> Draft:
        """Raises DiskFullError, UnavailableError."""
        path = self._folder / f"{secrets.token_hex(12)}{_DRAFT}"

        def begin() -> IO[bytes]:
            self._folder.mkdir(parents=True, exist_ok=True)
            return path.open("xb")

        return Draft(path, _on_disk(begin))

    def path(self, file: str) -> Path:
        return self._folder / file

    def here(self, file: str) -> bool:
        return self.path(file).exists()

    def remove(self, file: str) -> None:
        _on_disk(lambda: self.path(file).unlink(missing_ok=True))

    def pieces(self, file: str) -> Iterator[bytes]:
        """Yield a file's bytes. Raises NotFoundError before the first."""
        try:
            source = _on_disk(lambda: self.path(file).open("rb"))
        except NotFoundError as error:
            raise NotFoundError(f"the bytes of file {file!r} are not here") from error
        return _read(source)

    def sweep(self, known: Callable[[list[str]], Collection[str]]) -> int:
        """Remove what no table knows of and nobody writes; returns how many."""
        names = native(self._settled)
        strangers = set(names) - set(known([n for n in names if _is_id(n)]))
        for name in strangers:
            self.remove(name)
        return len(strangers)

    def _settled(self) -> list[str]:
        """List files that are not fresh: a row may follow its file by a moment."""
        horizon = time.time() - _ABANDONED_SECONDS
        if not self._folder.is_dir():
            return []
        return [
            entry.name
            for entry in os.scandir(self._folder)
            if entry.is_file() and entry.stat().st_mtime < horizon
        ]


def _is_id(name: str) -> bool:
    return not name.endswith(_DRAFT)


def _read(source: IO[bytes]) -> Iterator[bytes]:
    try:
        while piece := native(lambda: source.read(_PIECE_BYTES)):
            yield piece
    finally:
        native(source.close)


def _on_disk(call: Callable[[], T]) -> T:
    """Raises DiskFullError, NotFoundError, UnavailableError."""
    try:
        return native(call)
    except FileNotFoundError as error:
        raise NotFoundError("the file is not here") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            text = "the router's disk is full; nothing of this was kept"
            raise DiskFullError(text) from error
        raise UnavailableError(
            f"the router's disk fails: {error.strerror}", retry_after_seconds=5
        ) from error
