"""The table of formats: how a file of each is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from router.jobs.input.readers.csv_table import CsvTable
from router.jobs.input.readers.dialect import delimiter_word
from router.jobs.input.readers.json_document import JsonDocument
from router.jobs.input.readers.jsonl import JsonLines
from router.jobs.input.readers.rows import BadRow, Notes, ReadLimits, Row
from router.jobs.input.readers.text import TextFile, open_text
from router.jobs.input.readers.values import JsonReader
from router.jobs.model import Format

_HEAD_BYTES = 64 * 1024


class Reader(Protocol):
    """An open file of one format."""

    def names(self) -> tuple[str, ...]:
        """Return the columns; none where each row has its own."""

    def rows(self, wanted: Collection[str] | None = None) -> Iterator[Row | BadRow]:
        """Yield each row in order, with the wanted columns at least; None: all.

        Raises DatasetError where the file as a whole is unusable.
        """

    def at(self, place: int, wanted: Collection[str] | None = None) -> Row | BadRow:
        """Read the row at a place again; cheapest in the order of the file."""


@runtime_checkable
class ColumnReader(Reader, Protocol):
    """One that reads a column at a time, which takes less memory."""

    def sample(self, count: int, show: Callable[[object], object]) -> list[Row]:
        """Return the first rows with all columns, each value as `show` gives it."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A file to be opened.

    options: what somebody said of it: `encoding`, `delimiter`, `header`
    reading: how it turned out to be written: the same names
    """

    path: Path
    limits: ReadLimits
    options: Mapping[str, object]
    notes: Notes = field(default_factory=Notes)
    reading: dict[str, object] = field(default_factory=dict)

    @contextmanager
    def text(self) -> Iterator[TextFile]:
        encoding = str(self.options.get("encoding") or "")
        opened = open_text(self.path, self.limits.file_bytes, self.notes, encoding)
        with closing(opened.file):
            self.reading["encoding"] = opened.encoding
            yield opened


@contextmanager
def _csv(opening: Opening) -> Iterator[Reader]:
    with opening.text() as opened:
        table = CsvTable(opened, opening.limits, opening.notes, opening.options)
        opening.reading["delimiter"] = delimiter_word(table.dialect.delimiter)
        opening.reading["header"] = table.dialect.header
        yield table


@contextmanager
def _json(opening: Opening) -> Iterator[Reader]:
    with opening.text() as opened:
        if _holds_lines(opened.file):
            opening.notes.add("each line is an object: read as jsonl")
            yield JsonLines(opened, opening.limits)
        else:
            yield JsonDocument(opened, opening.limits, opening.notes)


@contextmanager
def _jsonl(opening: Opening) -> Iterator[Reader]:
    with opening.text() as opened:
        if _holds_list(opened.file):
            opening.notes.add("the file is one JSON list: read as json")
            yield JsonDocument(opened, opening.limits, opening.notes)
        else:
            yield JsonLines(opened, opening.limits)


@contextmanager
def _parquet(opening: Opening) -> Iterator[Reader]:
    from router.jobs.input.readers.parquet import ParquetTable  # noqa: PLC0415 - 60 MB

    with opening.path.open("rb") as file:
        yield ParquetTable(file, opening.limits, opening.notes)


@dataclass(frozen=True, slots=True)
class DatasetFormat:
    """An entry of the table of formats.

    title:      its name for people
    endings:    of file names, with their dot
    compresses: whether its files may lie in gzip or zstd
    """

    open: Callable[[Opening], AbstractContextManager[Reader]]
    title: str
    endings: tuple[str, ...]
    compresses: bool = True


FORMATS: Mapping[Format, DatasetFormat] = {
    Format.CSV: DatasetFormat(_csv, "CSV", (".csv", ".tab", ".tsv", ".txt")),
    Format.JSON: DatasetFormat(_json, "JSON", (".json",)),
    Format.JSONL: DatasetFormat(_jsonl, "JSONL", (".jsonl", ".ndjson")),
    Format.PARQUET: DatasetFormat(
        _parquet, "Parquet", (".parquet", ".pq"), compresses=False
    ),
}
COMPRESSED = (".gz", ".zst")


def _holds_list(file: BinaryIO) -> bool:
    """Say whether a file of lines is a list of objects in truth."""
    head = _head(file)
    return head.startswith("[") and head[1:].lstrip().startswith("{")


def _holds_lines(file: BinaryIO) -> bool:
    """Say whether a document is an object a line in truth."""
    first, newline, rest = _head(file).partition("\n")
    if not newline or not rest.lstrip().startswith("{"):
        return False
    try:
        value, end = JsonReader().read(first)
    except (json.JSONDecodeError, RecursionError):
        return False
    return isinstance(value, dict) and not first[end:].strip()


def _head(file: BinaryIO) -> str:
    peek: bytes = file.peek(_HEAD_BYTES)[:_HEAD_BYTES]  # type: ignore[attr-defined]
    return peek.decode("utf-8", "replace").lstrip()
