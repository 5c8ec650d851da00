"""A form with one large file, sent piece by piece: nothing is held in memory."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 256 * 1024


class MultipartBody:
    """A multipart body of known length; requests reads it like a file.

    sent: is told how many bytes of all have been read
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        path: Path,
        file: BinaryIO,
        sent: Callable[[int, int], None],
    ) -> None:
        edge = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={edge}"
        head = [
            f"--{edge}\r\nContent-Disposition: form-data; "
            f'name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        name = path.name.replace("\\", "_").replace('"', "%22")
        name = name.replace("\r", "_").replace("\n", "_")
        head.append(
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        self._head = "".join(head).encode()
        self._tail = f"\r\n--{edge}--\r\n".encode()
        self._file = file
        size = file.seek(0, 2)
        file.seek(0)
        self._length = len(self._head) + size + len(self._tail)
        self._sent = sent
        self._pieces = self._read_pieces()

    def __len__(self) -> int:
        return self._length

    def read(self, _: int = -1) -> bytes:
        """Return the next piece; empty at the end."""
        return next(self._pieces, b"")

    def _read_pieces(self) -> Iterator[bytes]:
        done = 0
        for piece in self._all():
            yield piece
            done += len(piece)
            self._sent(done, self._length)

    def _all(self) -> Iterator[bytes]:
        yield self._head
        while piece := self._file.read(_PIECE_BYTES):
            yield piece
        yield self._tail
