"""What reading a dataset yields, and how much of it there may be; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.errors import DatasetError, at

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be used.

    index:  counts rows from 0, bad ones included
    fields: JSON values by the name of their column
    line:   where it begins in the file; in Parquet, the row counted from 1
    """

    index: int
    fields: Mapping[str, object]
    line: int = 0


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used; line and column count from 1, in characters."""

    index: int
    line: int
    column: int | None
    message: str

    @property
    def text(self) -> str:
        return at(self.line, self.column) + self.message


@dataclass(frozen=True, slots=True)
class Sample:
    """The beginning of a file, to be shown."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    faults: tuple[BadRow, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large things may be.

    rows:      of a file
    row_bytes: of one row: its text, or what a Parquet row unfolds to
    columns:   of a table
    name_characters: of a column's name
    page_bytes:  of one page of a Parquet file, when it is uncompressed
    batch_bytes: what the Parquet reader may have in memory
    again_bytes: of a CSV file that are read twice, behind quotes left open
    chunk_bytes: of a JSON document that are read at one time, at first
    """

    rows: int = 1_000_000
    row_bytes: int = 4 * MIB
    columns: int = 1_000
    name_characters: int = 200
    page_bytes: int = 16 * MIB
    batch_bytes: int = 128 * MIB
    again_bytes: int = 64 * MIB
    chunk_bytes: int = 64 * 1024


def check_names(
    names: list[str], limits: Limits, *, line: int | None, places: list[int]
) -> None:
    """Raise DatasetError for columns that a template could not tell apart.

    places: where in the line each name stands
    """
    if len(names) > limits.columns:
        raise DatasetError(
            f"there are {len(names):,} columns, at most {limits.columns:,} can be used",
            line=line,
        )
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        place = places[number] if places else None
        if len(name) > limits.name_characters:
            raise DatasetError(
                f"the column name {name[:40]!r}... is longer than"
                f" {limits.name_characters} characters",
                line=line,
                column=place,
            )
        if name in seen:
            raise DatasetError(
                f"columns {seen[name] + 1} and {number + 1} are both named {name!r}",
                line=line,
                column=place,
            )
        seen[name] = number
