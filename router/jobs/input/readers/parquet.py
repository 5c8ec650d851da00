"""Parquet, unfolded a few rows at a time and only after a look at what it claims.

A file of some kilobytes may unfold to terabytes. So `measure` adds sizes up first,
texts that share values stay in their dictionary until a single row is unfolded, and
a row's size is known before it is. The only file that imports pyarrow; it runs in a
process of its own (`apart`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from router.errors import DatasetError
from router.jobs.input.readers.measure import measure
from router.jobs.input.readers.rows import MIB, BadRow, Limits, Row, check_names

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
_TAIL_BYTES = 8
_FOOTER_BYTES = 16 * MIB
_READ_BYTES = 64 * 1024
_VALUE_BYTES = 16  # what a number costs, roughly
_DEEPEST = 32


def read(path: Path, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield each row. Raises DatasetError, where a page is damaged in between."""
    with path.open("rb") as file:
        _check_frame(file)
        try:
            footer = pq.read_metadata(file)
            names = footer.schema.to_arrow_schema().names
            check_names(names, limits, line=None, places=[])
            yield from _rows(file, footer, limits)
        except pa.ArrowNotImplementedError as error:
            raise DatasetError(
                f"the Parquet file holds what cannot be read here: {_line(error)}"
            ) from error
        except (pa.ArrowException, OSError, ValueError) as error:
            what = _line(error)
            raise DatasetError(f"the Parquet file is damaged: {what}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


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
        raise DatasetError("the Parquet file is encrypted")
    if magic != _MAGIC:
        raise DatasetError("the Parquet file is cut off: its end is missing")
    if length > min(_FOOTER_BYTES, size - _TAIL_BYTES):
        raise DatasetError(f"the Parquet file's footer claims {length:,} bytes")


def _rows(
    file: BinaryIO, footer: pq.FileMetaData, limits: Limits
) -> Iterator[Row | BadRow]:
    index = 0
    # One group at a time: pyarrow cannot put lists of texts together that lie in
    # several dictionaries.
    for plan in measure(file, footer, limits):
        opened = pq.ParquetFile(
            file,
            metadata=footer,
            read_dictionary=list(plan.shared),
            pre_buffer=False,
            buffer_size=_READ_BYTES,
            arrow_extensions_enabled=False,
        )
        batches = opened.iter_batches(plan.rows, [plan.group], use_threads=False)
        for batch in batches:
            for each in _unfolded(batch, index, limits):
                yield each
                index += 1


def _unfolded(
    batch: pa.RecordBatch, index: int, limits: Limits
) -> Iterator[Row | BadRow]:
    """Turn a batch into rows; into halves first, while it would grow too large."""
    weight = sum(_weight(column) for column in batch.columns)
    if weight <= limits.row_bytes:
        yield from _converted(batch, index)
    elif batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _unfolded(batch.slice(0, half), index, limits)
        yield from _unfolded(batch.slice(half), index + half, limits)
    else:
        message = (
            f"the row unfolds to {weight:,} bytes, at most {limits.row_bytes:,} can"
            " be used"
        )
        yield BadRow(index, index + 1, None, message)


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
    return _VALUE_BYTES * len(array)


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


def _converted(batch: pa.RecordBatch, index: int) -> Iterator[Row | BadRow]:
    names = batch.schema.names
    for offset in range(batch.num_rows):
        number = index + offset
        fields: dict[str, object] = {}
        for name, column in zip(names, batch.columns, strict=True):
            try:
                fields[name] = _plain(column[offset].as_py())
            except (ValueError, OverflowError, RecursionError) as error:
                message = f"column {name!r}: {str(error)[:200]}"
                yield BadRow(number, number + 1, None, message)
                break
        else:
            yield Row(number, fields, number + 1)


def _plain(value: Any, depth: int = 0) -> object:
    """Turn a value into JSON's; missing numbers (NaN) become null.

    Raises ValueError for what JSON does not have.
    """
    if depth > _DEEPEST:
        raise ValueError("lists and objects are nested too deep")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, list):
        return _plain_list(value, depth)
    if isinstance(value, dict):
        return {str(name): _plain(each, depth + 1) for name, each in value.items()}
    return _worded(value)


def _finite(value: float) -> float | None:
    if value != value:  # noqa: PLR0124 - NaN: how tables write a missing number
        return None
    if not isfinite(value):
        raise ValueError("infinity is no JSON number")
    return value


def _plain_list(values: list[Any], depth: int) -> object:
    """A map comes as a list of pairs."""
    if values and all(isinstance(each, tuple) and len(each) == 2 for each in values):
        return {str(name): _plain(each, depth + 1) for name, each in values}
    return [_plain(each, depth + 1) for each in values]


def _worded(value: Any) -> object:
    """Turn what has no JSON value of its own into text."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("binary data, not text in UTF-8") from None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    raise ValueError(f"values of type {type(value).__name__} cannot be used")
