"""Parquet: the columns that are used, unfolded a few rows at a time.

A file of some kilobytes may unfold to terabytes, by compression, by one value that
every row points at, or by prefixes that values share. So it is read in a process whose
memory is limited (`router.jobs.input.sandbox`); texts that share values stay in their
dictionary until a single row is unfolded, and a row's size is known before it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from router.errors import DatasetError
from router.jobs.input.readers.arrow_values import converter
from router.jobs.input.readers.rows import (
    MIB,
    BadRow,
    Notes,
    ReadLimits,
    Row,
    Unusable,
    trimmed,
    usable_names,
)

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
_TAIL_BYTES = 8
_FOOTER_BYTES = 16 * MIB
_READ_BYTES = 64 * 1024
_VALUE_BYTES = 16  # what a number costs, roughly
_ROWS = (256, 16, 1)  # unpacked at one time: fewer where they do not fit
_SHARED_BYTES = 32 * MIB  # of a column in a row group whose dictionary is kept


class ParquetTable:
    """An open file; a `Reader`."""

    def __init__(self, file: BinaryIO, limits: ReadLimits, notes: Notes) -> None:
        self._limits = limits
        self._scan: tuple[_Group | None, int, Iterator[Row | BadRow]]
        self._scan = (None, 0, iter(()))
        self._file = file
        _check_frame(self._file)
        with _own_words():
            self._footer = pq.read_metadata(self._file)
            self._columns = _columns(self._footer, limits, notes)
            self._groups = _groups(self._footer)
        count = self._footer.num_rows
        if count > limits.rows:
            raise DatasetError(
                f"the file has {count:,} rows, at most {limits.rows:,} can be used"
                " (jobs.max_items); split it"
            )

    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self._columns)

    def rows(self, wanted: Collection[str] | None = None) -> Iterator[Row | BadRow]:
        """Yield each row, with these columns only. Raises DatasetError."""
        for group in self._groups:
            yield from self._rows_of(group, self._chosen(wanted), group.first)

    def at(self, place: int, wanted: Collection[str] | None = None) -> Row | BadRow:
        """Read the row of this number; cheap where it follows the one before.

        The same columns must be wanted each time.
        """
        found = next((each for each in self._groups if place in each.numbers), None)
        if found is None:
            raise DatasetError(f"the file has no row {place + 1:,}")
        group, following, rows = self._scan
        if group is not found or following > place:
            following, rows = place, self._rows_of(found, self._chosen(wanted), place)
        row = next(islice(rows, place - following, None))
        self._scan = (found, place + 1, rows)
        return row

    def sample(self, count: int, show: Callable[[object], object]) -> list[Row]:
        """Return the first rows; each column is read alone, for its memory's sake.

        A column that cannot be read says why instead of its values.
        """
        found: list[dict[str, object]] = [
            {} for _ in range(min(count, self._footer.num_rows))
        ]
        for column in self._columns:
            for fields, value in zip(found, self._values(column), strict=False):
                fields[column.name] = show(value)
        return [Row(n, fields, n + 1, n) for n, fields in enumerate(found)]

    def _values(self, column: _Column) -> Iterator[object]:
        try:
            for row in self.rows([column.name]):
                if isinstance(row, Row):
                    yield row.fields[column.name]
                else:
                    yield Unusable(row.message)
        except DatasetError as error:
            while True:
                yield Unusable(str(error))

    def _chosen(self, wanted: Collection[str] | None) -> list[_Column]:
        if wanted is None:
            return self._columns
        return [column for column in self._columns if column.name in wanted]

    def _rows_of(
        self, group: _Group, chosen: list[_Column], begin: int
    ) -> Iterator[Row | BadRow]:
        """Yield the rows of a group from `begin` on.

        Fewer are unpacked at one time where they do not fit into the memory.
        """
        if not chosen:
            yield from (
                Row(n, {}, n + 1, n) for n in group.numbers[begin - group.first :]
            )
            return
        for size in _ROWS:
            try:
                with _own_words():
                    for row in self._unpacked(group, chosen, begin, size):
                        yield row
                        begin += 1
            except MemoryError:
                continue
            return
        raise DatasetError(
            f"row group {group.number} does not fit into the memory that reading a"
            " file may take (jobs.reader_memory_bytes); write smaller row groups, or"
            " use fewer columns"
        )

    def _unpacked(
        self, group: _Group, chosen: list[_Column], begin: int, size: int
    ) -> Iterator[Row | BadRow]:
        opened = self._opened(group, chosen)
        leaves = [leaf for column in chosen for leaf in column.leaves]
        first = group.first
        for batch in opened.reader.iter_batches(
            size, row_groups=[group.number], column_indices=leaves, use_threads=False
        ):
            rest = batch.slice(max(0, begin - first))
            yield from _unfolded(rest, max(begin, first), chosen, self._limits)
            first += batch.num_rows

    def _opened(self, group: _Group, chosen: list[_Column]) -> Any:
        chunks = self._footer.row_group(group.number)
        paths = self._footer.schema
        shared = [
            paths.column(leaf).path
            for column in chosen
            for leaf in column.leaves
            if _keeps_dictionary(paths.column(leaf), chunks.column(leaf))
        ]
        return pq.ParquetFile(
            self._file,
            metadata=self._footer,
            read_dictionary=shared,
            pre_buffer=False,
            buffer_size=_READ_BYTES,
            arrow_extensions_enabled=False,
            coerce_int96_timestamp_unit="us",  # in nanoseconds, there is no year 1
        )


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table; `leaves` are its places among Parquet's columns.

    marks: Parquet's logical types of the leaves
    """

    name: str
    leaves: range
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group and the number of its first row."""

    number: int
    first: int
    rows: int

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.rows)


def _columns(
    footer: pq.FileMetaData, limits: ReadLimits, notes: Notes
) -> list[_Column]:
    schema = footer.schema.to_arrow_schema()
    names = usable_names([trimmed(name) for name in schema.names], limits, notes)
    found: list[_Column] = []
    first = 0
    for name, field in zip(names, schema, strict=True):
        leaves = range(first, first + _leaves(field.type))
        marks = tuple(_mark(footer.schema.column(leaf)) for leaf in leaves)
        found.append(_Column(name, leaves, marks))
        first = leaves.stop
    return found


def _leaves(kind: pa.DataType) -> int:
    """Count the columns of Parquet that a type takes."""
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if pa.types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    if pa.types.is_struct(kind):
        return sum(_leaves(kind.field(n).type) for n in range(kind.num_fields))
    if pa.types.is_nested(kind) and hasattr(kind, "value_type"):
        return _leaves(kind.value_type)
    return 1


def _mark(leaf: Any) -> str:
    kind = str(leaf.logical_type.type)
    return "INTERVAL" if leaf.converted_type == "INTERVAL" else kind


def _groups(footer: pq.FileMetaData) -> list[_Group]:
    found: list[_Group] = []
    first = 0
    for number in range(footer.num_row_groups):
        rows = footer.row_group(number).num_rows
        if rows > 0:
            found.append(_Group(number, first, rows))
            first += rows
    return found


def _keeps_dictionary(leaf: Any, chunk: Any) -> bool:
    """Say whether texts stay in their dictionary, so that one long value is there once.

    pyarrow makes a dictionary of plain values, too, and keeps it for the row group.
    """
    text = leaf.physical_type == "BYTE_ARRAY"
    return bool(
        text
        and chunk.has_dictionary_page
        and chunk.total_uncompressed_size <= _SHARED_BYTES
    )


def _check_frame(file: BinaryIO) -> None:
    """Look at both ends: pyarrow allocates as much as the footer's length says."""
    head = file.read(len(_MAGIC))
    size = file.seek(0, 2)
    if head not in {_MAGIC, _ENCRYPTED} or size < 2 * _TAIL_BYTES:
        raise DatasetError("the file does not begin as a Parquet file does")
    file.seek(size - _TAIL_BYTES)
    length, magic = struct.unpack("<I4s", file.read(_TAIL_BYTES))
    file.seek(0)
    if _ENCRYPTED in {head, magic}:
        raise DatasetError("the Parquet file is encrypted; write it without a key")
    if magic != _MAGIC:
        raise DatasetError("the Parquet file is cut off: its end is missing")
    if length > min(_FOOTER_BYTES, size - _TAIL_BYTES):
        raise DatasetError(f"the Parquet file's footer claims {length:,} bytes")


@contextmanager
def _own_words() -> Iterator[None]:
    """Word what pyarrow raises."""
    try:
        yield
    except MemoryError:
        raise
    except pa.ArrowNotImplementedError as error:
        raise DatasetError(
            "the Parquet file is written in a way that cannot be read here; write the"
            " columns as plain types, compressed by snappy, gzip or zstd"
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(
            "the Parquet file is damaged: a part of it cannot be read"
        ) from error


def _unfolded(
    batch: pa.RecordBatch, index: int, chosen: list[_Column], limits: ReadLimits
) -> Iterator[Row | BadRow]:
    """Turn a batch into rows; into halves first, while it would grow too large."""
    weight = sum(_weight(column) for column in batch.columns)
    if weight <= limits.row_bytes:
        yield from _converted(batch, index, chosen)
    elif batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _unfolded(batch.slice(0, half), index, chosen, limits)
        yield from _unfolded(batch.slice(half), index + half, chosen, limits)
    elif batch.num_rows:
        message = (
            f"the row unfolds to {weight:,} bytes, at most {limits.row_bytes:,} can"
            " be used (jobs.max_line_bytes)"
        )
        yield BadRow(index, index + 1, None, message)


def _converted(
    batch: pa.RecordBatch, index: int, chosen: list[_Column]
) -> Iterator[Row]:
    made = [
        converter(column.type, iter(each.marks))
        for each, column in zip(chosen, batch.columns, strict=True)
    ]
    for offset in range(batch.num_rows):
        fields = {
            each.name: convert(column[offset])
            for each, convert, column in zip(chosen, made, batch.columns, strict=True)
        }
        number = index + offset
        yield Row(number, fields, number + 1, number)


def _weight(array: Any) -> int:
    """Give the bytes that an array's values take when none is shared any more."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _weight_of_shared(array)
    if pa.types.is_struct(kind):
        return len(array) + sum(_weight(field) for field in array.flatten())
    if pa.types.is_nested(kind):
        return _VALUE_BYTES * len(array) + sum(map(_weight, _inside(array)))
    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width) * len(array)
    if _has_length(kind):
        return int(pc.sum(pc.binary_length(array)).as_py() or 0) + len(array)
    return max(_VALUE_BYTES * len(array), int(array.nbytes))


def _inside(array: Any) -> list[Any]:
    """Give the values of all lists or maps of an array."""
    if not pa.types.is_map(array.type):
        return [array.flatten()]
    first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
    return [each.slice(first, last - first) for each in (array.keys, array.items)]


def _weight_of_shared(array: Any) -> int:
    """The same for values that lie in a dictionary."""
    if not _has_length(array.type.value_type):
        return _VALUE_BYTES * len(array)
    lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
    used = pc.take(lengths, array.indices)
    return int(pc.sum(used).as_py() or 0) + len(array)


def _has_length(kind: Any) -> bool:
    return kind in {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}
