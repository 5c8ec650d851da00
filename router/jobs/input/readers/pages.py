"""What the pages of a Parquet file say they hold, read without unpacking any.

pyarrow allocates whatever a page's header asks for, and shows none of these
headers. They are structs of Thrift's compact protocol; the few fields that matter
are read here, everything else is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# Statistics lie in a header, too; they are cut off at far less by every writer.
_HEADER_BYTES = 1024 * 1024
_DEEPEST = 8
_FIRST_BYTES = 4096

# Thrift compact protocol: how a field's value is written.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_LIST, _SET, _MAP, _STRUCT = range(9, 13)
_VARINTS = frozenset({_I16, _I32, _I64})

# Fields of PageHeader, and of the structs in it: number of values comes first.
_KIND, _UNCOMPRESSED, _COMPRESSED = 1, 2, 3
_HEADS = (5, 7, 8)  # of data, of a dictionary, of data in version 2
_VALUES = 1
_ENCODING = {5: 2, 8: 4}  # field of the encoding, by the head that it is in
_DICTIONARIES = frozenset({2, 8})
_DELTAS = frozenset({6, 7})  # of texts


class PageError(ValueError):
    """A header is damaged."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one header says; sizes in bytes.

    encoding: of a data page's values, by its number in the format
    """

    kind: int
    uncompressed: int
    compressed: int
    values: int
    encoding: int

    @property
    def dictionary(self) -> bool:
        return self.kind == 2

    @property
    def shared(self) -> bool:
        """Say whether its values lie in the dictionary."""
        return self.encoding in _DICTIONARIES

    @property
    def delta(self) -> bool:
        return self.encoding in _DELTAS


def pages(file: BinaryIO, start: int, size: int) -> Iterator[Page]:
    """Yield each page of the column chunk at `start`. Raises PageError."""
    at, end = start, start + size
    while at < end:
        page, length = _header(file, at, end)
        if page.compressed < 0 or page.uncompressed < 0 or page.values < 0:
            raise PageError("a page of a negative size")
        at += length + page.compressed
        if at > end:
            raise PageError("a page is longer than its column")
        yield page


def _header(file: BinaryIO, at: int, end: int) -> tuple[Page, int]:
    """Read one header; with more bytes while it seems cut off."""
    take = _FIRST_BYTES
    while True:
        file.seek(at)
        raw = file.read(min(take, end - at))
        reader = _Compact(raw)
        try:
            return _page(reader.struct(0)), reader.at
        except IndexError:
            if len(raw) < take or take >= _HEADER_BYTES:
                raise PageError("a page's header is cut off") from None
            take *= 16


def _page(fields: dict[int, object]) -> Page:
    kind, uncompressed, compressed = (
        _number(fields, each) for each in (_KIND, _UNCOMPRESSED, _COMPRESSED)
    )
    values, encoding = 0, -1
    for number in _HEADS:
        head = fields.get(number)
        if isinstance(head, dict):
            values = _number(head, _VALUES)
            encoding = _number(head, _ENCODING.get(number, 0))
    return Page(kind, uncompressed, compressed, values, encoding)


def _number(fields: dict[int, object], field: int) -> int:
    """Return a number that must be there; -1 where it is not."""
    value = fields.get(field)
    return value if isinstance(value, int) else -1


class _Compact:
    """A cursor over bytes; IndexError where they end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    def struct(self, depth: int) -> dict[int, object]:
        if depth > _DEEPEST:
            raise PageError("a page's header is nested too deep")
        fields: dict[int, object] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            fields[number] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> object:
        if kind in {_TRUE, _FALSE}:
            return kind == _TRUE
        if kind in _VARINTS:
            return self._signed()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        self._skip(kind, depth)
        return None

    def _skip(self, kind: int, depth: int) -> None:
        if kind == _BYTE:
            self._forward(1)
        elif kind == _DOUBLE:
            self._forward(8)
        elif kind == _BINARY:
            self._forward(self._unsigned())
        elif kind in {_LIST, _SET}:
            self._skip_list(depth)
        else:
            raise PageError(f"a page's header has a field of kind {kind}")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4
        if count == 15:
            count = self._unsigned()
        for _ in range(count):
            if head & 15 in {_TRUE, _FALSE}:
                self._forward(1)  # in a list, they take a byte
            else:
                self._value(head & 15, depth + 1)

    def _forward(self, count: int) -> None:
        self.at += count
        if self.at > len(self._raw):
            raise IndexError

    def _byte(self) -> int:
        value = self._raw[self.at]
        self.at += 1
        return value

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise PageError("a number in a page's header is too long")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
