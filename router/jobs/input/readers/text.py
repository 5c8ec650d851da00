"""Text files as UTF-8, whatever they are written in, and as lines of bounded length.

Files compressed with gzip or zstd are unpacked as they are read. Nothing is known of
formats here.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from router.errors import DatasetError
from router.jobs.input.readers.compression import unpacked
from router.jobs.input.readers.rows import MIB, NOWHERE, Notes

UTF8 = "utf-8"
_GUESS = "cp1252"  # what Excel writes in Western Europe and America
_UTF8_BOM = b"\xef\xbb\xbf"
# Longest first: UTF-32's little-endian mark begins like UTF-16's.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_BINARY = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; save it as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV (UTF-8)"),
    (b"PAR1", "a Parquet file; name it .parquet, or give the format 'parquet'"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
    (b"ARROW1", "an Arrow (Feather) file; save it as Parquet"),
    (b"BZh", "compressed with bzip2; use gzip or zstd"),
    (b"\xfd7zXZ", "compressed with xz; use gzip or zstd"),
    (b"7z\xbc\xaf", "a 7-Zip archive; use gzip or zstd"),
)
_HEAD_BYTES = MIB
# So much of a plain file is looked at before its encoding is guessed.
_LOOK_BYTES = 64 * MIB
_SKIM_BYTES = MIB
_HIGH = re.compile(rb"[\x80-\xff]")
_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
# Stands for what cannot be decoded: no text has this code point.
_MARKER = "\ufdd0"
codecs.register_error("mark", lambda error: (_MARKER, error.end))  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class TextFile:
    """An open text file.

    file:     its text in UTF-8, past a byte order mark
    seekable: whether offsets in `file` can be sought later, in the same file opened
              again
    """

    file: BinaryIO
    seekable: bool
    encoding: str


class TextLine(NamedTuple):
    """A line with its end; `fault` and `column` where its text cannot be used.

    damaged: some of its bytes could not be decoded: lone surrogates stand for them
    offset:  of its first byte, where the file can be sought
    """

    number: int
    text: str
    fault: str = ""
    column: int | None = None
    damaged: bool = False
    offset: int = NOWHERE


def open_text(
    path: Path, most_bytes: int, notes: Notes, encoding: str = ""
) -> TextFile:
    """Open a text file as UTF-8. Raises DatasetError.

    most_bytes: of a compressed file, unpacked
    encoding:   where it is known; else it is found out, and a note says what was taken
    """
    raw, plain = unpacked(path, most_bytes)
    try:
        return _opened(raw, encoding, notes, plain=plain)
    except BaseException:
        raw.close()
        raise


def open_utf8(path: Path, most_bytes: int) -> TextFile:
    """Open a text file that must be UTF-8. Raises DatasetError."""
    raw, plain = unpacked(path, most_bytes)
    try:
        _check_utf8(raw.peek(_HEAD_BYTES)[:_HEAD_BYTES])
        if raw.peek(len(_UTF8_BOM)).startswith(_UTF8_BOM):
            raw.read(len(_UTF8_BOM))
    except BaseException:
        raw.close()
        raise
    return TextFile(raw, plain, UTF8)


def _check_utf8(head: bytes) -> None:
    _check_binary(head)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            raise DatasetError(f"the file is in {encoding.upper()}; save it as UTF-8")
    if b"\0" in head:
        raise DatasetError("there are NUL bytes; save the file as UTF-8")


def _opened(
    raw: io.BufferedReader, encoding: str, notes: Notes, *, plain: bool
) -> TextFile:
    head = raw.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    _check_binary(head)
    found = encoding or _found_encoding(raw, head, notes, plain=plain)
    check_encoding(found)
    if head.startswith(_UTF8_BOM):
        raw.read(len(_UTF8_BOM))
    old_lines = b"\r" in head and b"\n" not in head
    if old_lines:
        notes.add("lines end with a carriage return alone, as on old Macs")
    if codecs.lookup(found).name == UTF8 and not old_lines:
        return TextFile(raw, plain, UTF8)
    converted: Any = io.BufferedReader(cast("Any", _Transcoded(raw, found)), MIB)
    return TextFile(converted, seekable=False, encoding=found)


def check_encoding(name: str) -> None:
    """Raise DatasetError for what is not the name of a text encoding."""
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        raise DatasetError(
            f"encoding: must be one such as 'utf-8', 'cp1252', 'utf-16' or"
            f" 'shift_jis', got {name[:40]!r}"
        ) from None


def _check_binary(head: bytes) -> None:
    for magic, what in _BINARY:
        if head.startswith(magic):
            raise DatasetError(f"the file is {what}")


def _found_encoding(
    raw: io.BufferedReader, head: bytes, notes: Notes, *, plain: bool
) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head[:4096]:
        return _wide(head[:4096], notes)
    fits = _is_utf8(head) if not plain else _begins_as_utf8(raw)
    if fits or head.startswith(_UTF8_BOM):
        return UTF8
    return _guessed(head if not plain else _first_damaged(raw), notes)


def _wide(head: bytes, notes: Notes) -> str:
    """Tell UTF-16 without a mark by its zero bytes. Raises DatasetError."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 4
    if max(even, odd) > half and min(even, odd) <= half // 10:
        encoding = "utf-16-be" if even > odd else "utf-16-le"
        notes.add(f"the encoding is a guess: {encoding.upper()}, without a mark")
        return encoding
    place = head.index(b"\0")
    raise DatasetError(
        "there is a NUL byte: this is not a text file",
        line=head.count(b"\n", 0, place) + 1,
        column=place - head.rfind(b"\n", 0, place),
    )


def _begins_as_utf8(raw: io.BufferedReader) -> bool:
    """Say whether the first part of a plain file is UTF-8; stay at its beginning."""
    decoder = codecs.getincrementaldecoder(UTF8)()
    try:
        for _ in range(_LOOK_BYTES // MIB):
            piece = raw.read(MIB)
            decoder.decode(piece, final=not piece)
            if not piece:
                break
    except UnicodeDecodeError:
        return False
    finally:
        raw.seek(0)
    return True


def _first_damaged(raw: io.BufferedReader) -> bytes:
    """Return the first MiB that is not UTF-8; stay at the beginning."""
    try:
        for _ in range(_LOOK_BYTES // MIB):
            piece = raw.read(MIB)
            if not _is_utf8(piece):
                return piece
    finally:
        raw.seek(0)
    return b""


def _is_utf8(piece: bytes) -> bool:
    """Say whether it is UTF-8 but for characters cut off at either end."""
    try:
        codecs.getincrementaldecoder(UTF8)().decode(piece.lstrip(b"\x80\xbf"))
    except UnicodeDecodeError:
        return False
    return True


def _guessed(sample: bytes, notes: Notes) -> str:
    """Choose between UTF-8 with a few bad bytes and the usual encoding of Windows."""
    whole = sum(len(found) for found in _MULTIBYTE.findall(sample))
    high = len(_HIGH.findall(sample))
    if whole * 2 >= high:
        return UTF8  # rows with the others fail alone
    try:
        text = sample.decode(_GUESS)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"the file is neither UTF-8 nor Windows-1252 (byte"
            f" 0x{sample[error.start]:02x}); save it as UTF-8, or give its encoding"
        ) from None
    place = next(n for n, letter in enumerate(text) if letter > "\x7f")
    shown = text[max(0, place - 12) : place + 12].split("\n")
    word = next(part for part in shown if any(letter > "\x7f" for letter in part))
    notes.add(
        f"the file is not UTF-8; the encoding is a guess: Windows-1252, as in"
        f" {word.strip()!r}"
    )
    return _GUESS


class _Transcoded(io.RawIOBase):
    """A file of another encoding, as UTF-8 with line feeds."""

    def __init__(self, source: BinaryIO, encoding: str) -> None:
        self._source = source
        decoder = codecs.getincrementaldecoder(encoding)("mark")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while not self._left and not self._ended:
            piece = self._source.read(64 * 1024)
            self._ended = not piece
            text = self._decoder.decode(piece, final=self._ended)
            self._left = text.encode(UTF8, "replace")
        taken = self._left[: len(buffer)]
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        self._source.close()
        super().close()


def lines(
    file: BinaryIO, longest: int, *, seekable: bool = False, before: int = 0
) -> Iterator[TextLine]:
    """Yield each line; of one longer than `longest` bytes only that it was.

    before: lines of the file that were read already
    """
    number = before
    offset = file.tell() if seekable else NOWHERE
    while raw := file.readline(longest + 1):
        number += 1
        began = offset
        if seekable:
            offset += len(raw)
        if len(raw) > longest and not raw.endswith(b"\n"):
            skipped = _skim(file)
            if seekable:
                offset += skipped
            yield TextLine(number, "", f"the line is longer than {longest:,} bytes", 1)
            continue
        yield _decoded(number, raw, began)


def _decoded(number: int, raw: bytes, offset: int) -> TextLine:
    try:
        text = raw.decode(UTF8)
        return TextLine(number, text, damaged=_MARKER in text, offset=offset)
    except UnicodeDecodeError:
        text = raw.decode(UTF8, "surrogateescape")
        return TextLine(number, text, damaged=True, offset=offset)


def damage(text: str) -> str:
    """Say why a text cannot be written; "" where it can."""
    if text.isascii():
        return ""
    if _MARKER in text:
        return "it holds bytes that are not of the file's encoding; give the right one"
    try:
        text.encode(UTF8)
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
    else:
        return ""
    if 0xDC80 <= code <= 0xDCFF:
        return (
            f"byte 0x{code - 0xDC00:02x} is not UTF-8; save the file as UTF-8, or give"
            " its encoding"
        )
    return "half of a \\u surrogate pair is missing"


def _skim(file: BinaryIO) -> int:
    """Go to the next line without keeping what lies before it; returns its bytes."""
    count = 0
    while raw := file.readline(_SKIM_BYTES):
        count += len(raw)
        if raw.endswith(b"\n"):
            break
    return count
