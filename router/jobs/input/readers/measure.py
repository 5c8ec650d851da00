"""Whether a Parquet file fits, and how it may be read, told from its headers alone.

A few kilobytes may unfold to terabytes: by compression, by one long value in a
dictionary that every row points at, by prefixes that values share. Nothing is
unpacked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from router.errors import DatasetError
from router.jobs.input.readers.pages import Page, PageError, pages
from router.jobs.input.readers.rows import Limits

_MOST_ROWS = 256
_LONGEST_FIXED = 1024  # bytes of a FIXED_LEN_BYTE_ARRAY
_VALUE_BYTES = 16  # what a number costs, roughly


@dataclass(frozen=True, slots=True)
class Plan:
    """How one row group is read.

    rows:   at one time
    shared: columns whose values stay in their dictionary
    """

    group: int
    rows: int
    shared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    """What the headers of a column's pages add up to; sizes unpacked, in bytes.

    text:   its values are as long as they like
    lists:  a row may have many values
    shared: all of its values lie in its dictionary
    delta:  some values are written as what differs from the one before
    """

    path: str
    text: bool
    lists: bool
    shared: bool
    delta: bool
    dictionary: int
    largest: int
    whole: int

    @property
    def kept(self) -> bool:
        """Say whether it is read without unfolding its dictionary.

        pyarrow makes a dictionary of what lies in none, and keeps it for the row
        group; that is worth it only where lists could repeat a long value.
        """
        return self.text and (self.shared or (self.lists and self.dictionary > 0))

    @property
    def cost(self) -> int:
        """Give the memory that it takes while its row group is read."""
        if self.text and self.lists and not self.shared:
            return self.dictionary + self.whole
        return self.dictionary + self.largest

    @property
    def longest(self) -> int:
        """Give what one row of it may unfold to, where it is unfolded at once."""
        if not self.text or self.kept or self.lists:
            return 1
        return max(self.dictionary, self.largest)


def measure(file: BinaryIO, footer: Any, limits: Limits) -> list[Plan]:
    """Plan the reading of each row group that has rows.

    footer: pyarrow's FileMetaData
    Raises DatasetError for what would not fit, PageError for what is damaged.
    """
    if footer.num_rows > limits.rows:
        raise DatasetError(
            f"the file has {footer.num_rows:,} rows, at most {limits.rows:,} can be"
            " used; split it"
        )
    groups = range(footer.num_row_groups)
    # A group without rows has no pages to look at.
    filled = [number for number in groups if footer.row_group(number).num_rows]
    return [_plan(file, footer, number, limits) for number in filled]


def _plan(file: BinaryIO, footer: Any, number: int, limits: Limits) -> Plan:
    group = footer.row_group(number)
    columns = [
        _measured(file, footer.schema.column(index), group.column(index), limits)
        for index in range(group.num_columns)
    ]
    total = sum(column.cost for column in columns)
    if total > limits.batch_bytes:
        raise DatasetError(
            f"row group {number} needs {total:,} bytes of memory at one time, at"
            f" most {limits.batch_bytes:,} can be used; write smaller pages, or"
            " smaller row groups"
        )
    widest = max((column.longest for column in columns), default=1)
    rows = max(1, min(_MOST_ROWS, limits.batch_bytes // max(widest, 1)))
    return Plan(number, rows, tuple(each.path for each in columns if each.kept))


def _measured(file: BinaryIO, declared: Any, chunk: Any, limits: Limits) -> _Column:
    """Add up the pages of a column in one row group."""
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    found = list(pages(file, start, chunk.total_compressed_size))
    for page in found:
        _check_page(page, chunk.path_in_schema, limits)
    data = [page for page in found if not page.dictionary]
    values = sum(page.values for page in data)
    if values != chunk.num_values:
        raise PageError(
            f"column {chunk.path_in_schema!r} claims {chunk.num_values:,} values,"
            f" its pages hold {values:,}"
        )
    column = _Column(
        path=declared.path,
        text=declared.physical_type == "BYTE_ARRAY",
        lists=declared.max_repetition_level > 0,
        shared=all(page.shared for page in data),
        delta=any(page.delta for page in data),
        dictionary=_most(page.uncompressed for page in found if page.dictionary),
        largest=_most(page.uncompressed for page in data),
        whole=sum(page.uncompressed for page in data),
    )
    _check_values(column, declared.length or 0, values, limits)
    return column


def _most(sizes: Iterable[int]) -> int:
    return max(sizes, default=0)


def _check_page(page: Page, name: str, limits: Limits) -> None:
    if page.uncompressed > limits.page_bytes:
        raise DatasetError(
            f"a page of column {name!r} unpacks to {page.uncompressed:,} bytes, at"
            f" most {limits.page_bytes:,} can be used"
        )


def _check_values(column: _Column, length: int, values: int, limits: Limits) -> None:
    """Refuse what a single row may fill with more than there is room for."""
    if length > _LONGEST_FIXED:
        raise DatasetError(
            f"column {column.path!r} has values of {length:,} bytes each,"
            f" at most {_LONGEST_FIXED:,} can be used"
        )
    if column.lists and column.text and column.delta:
        raise DatasetError(
            f"column {column.path!r} has lists of delta-encoded texts; write them"
            " with a dictionary, or plain"
        )
    most = limits.batch_bytes // max(length, _VALUE_BYTES)
    if column.lists and values > most:
        raise DatasetError(
            f"column {column.path!r} has {values:,} values in one row group, at most"
            f" {most:,} can be used; leave it out, or write smaller row groups"
        )
