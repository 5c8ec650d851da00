"""Text files as lines of bounded length, in UTF-8; nothing is known of formats here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from router.errors import DatasetError

_UTF8_BOM = b"\xef\xbb\xbf"
# Longest first: UTF-32's little-endian mark begins like UTF-16's.
_FOREIGN = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_BINARY = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "an SQLite database"),
)
_SKIM_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end; `fault` and `column` where its text cannot be used."""

    number: int
    text: str
    fault: str = ""
    column: int | None = None


def open_text(path: Path) -> BinaryIO:
    """Open a UTF-8 file behind its byte order mark. Raises DatasetError."""
    file = path.open("rb")
    try:
        head = file.read(4096)
        _check_head(head)
        file.seek(len(_UTF8_BOM) if head.startswith(_UTF8_BOM) else 0)
    except BaseException:
        file.close()
        raise
    return file


def lines(file: BinaryIO, longest: int) -> Iterator[Line]:
    """Yield each line; of one longer than `longest` bytes only that it was."""
    number = 0
    while raw := file.readline(longest + 1):
        number += 1
        if len(raw) > longest and not raw.endswith(b"\n"):
            _skim(file)
            yield Line(number, "", f"the line is longer than {longest:,} bytes", 1)
            continue
        yield decoded(number, raw)


def decoded(number: int, raw: bytes) -> Line:
    """Decode one line strictly; a fault says which byte, and where."""
    try:
        return Line(number, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        fault, column = undecodable(raw, error)
        return Line(number, "", fault, column)


def undecodable(raw: bytes, error: UnicodeDecodeError) -> tuple[str, int]:
    """Say what is wrong with the bytes of a line, and in which column."""
    before = raw[: error.start].decode("utf-8")
    what = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
    return what, len(before) + 1


def _skim(file: BinaryIO) -> None:
    """Go to the next line without keeping what lies before it."""
    while raw := file.readline(_SKIM_BYTES):
        if raw.endswith(b"\n"):
            return


def _check_head(head: bytes) -> None:
    for mark, encoding in _FOREIGN:
        if head.startswith(mark):
            raise DatasetError(f"the file is in {encoding}; save it as UTF-8")
    for magic, what in _BINARY:
        if head.startswith(magic):
            raise DatasetError(f"the file is {what}, not text")
    if b"\0" in head:
        place = head.index(b"\0")
        line = head.count(b"\n", 0, place) + 1
        column = place - head.rfind(b"\n", 0, place)
        raise DatasetError(
            "there is a NUL byte: this is no text in UTF-8", line=line, column=column
        )
