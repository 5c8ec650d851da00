"""Files compressed with gzip or zstd, unpacked as they are read, up to a bound."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from router.errors import DatasetError
from router.jobs.input.readers.rows import MIB

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BUFFER_BYTES = MIB


def unpacked(path: Path, most_bytes: int) -> tuple[io.BufferedReader, bool]:
    """Open a file; returns its content, and whether that is the file's own bytes.

    Reading raises DatasetError where it is damaged or has more than `most_bytes`.
    """
    file = cast("io.BufferedReader", path.open("rb", buffering=_BUFFER_BYTES))
    magic = file.peek(len(ZSTD))[: len(ZSTD)]
    if magic.startswith(GZIP):
        source: Any = gzip.GzipFile(fileobj=file)
    elif magic == ZSTD:
        source = _zstd(file)
    else:
        return file, True
    return io.BufferedReader(_Bounded(source, file, most_bytes), _BUFFER_BYTES), False


def _zstd(file: BinaryIO) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - 60 MB, in the reader's own process only

    return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")


class _Bounded(io.RawIOBase):
    """The content of a compressed file."""

    def __init__(self, source: Any, file: BinaryIO, most_bytes: int) -> None:
        self._source = source
        self._file = file
        self._most_bytes = most_bytes
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._source.read(len(buffer))
        except MemoryError:
            raise
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DatasetError(
                f"the compressed file is damaged or cut off, {self._count:,} bytes"
                " into its content; upload it again"
            ) from error
        self._count += len(piece)
        if self._count > self._most_bytes:
            raise DatasetError(
                f"the file unpacks to more than {self._most_bytes:,} bytes"
                " (jobs.max_file_bytes); split it"
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()
