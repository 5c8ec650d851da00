"""Datasets that people upload, read row by row in bounded memory.

Blocking: for a native thread. A row that cannot be used is a `BadRow` and its
neighbours go on; a file that cannot be used raises DatasetError, also after rows
have come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePath

from router.errors import DatasetError
from router.jobs.input.readers import apart, csv_table, json_document, jsonl
from router.jobs.input.readers.rows import BadRow, Limits, Row, Sample
from router.jobs.model import Format

__all__ = ["BadRow", "Limits", "Row", "Sample", "columns", "format_of", "read"]

Reader = Callable[[Path, Limits], Iterator[Row | BadRow]]


READERS: Mapping[Format, Reader] = {
    Format.CSV: csv_table.read,
    Format.JSON: json_document.read,
    Format.JSONL: jsonl.read,
    Format.PARQUET: apart.read,
}
_ENDINGS = {
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".tab": Format.CSV,
    ".tsv": Format.CSV,
}


def format_of(name: str) -> Format:
    """Tell a file's format by the ending of its name. Raises DatasetError."""
    ending = PurePath(name).suffix.lower()
    if ending not in _ENDINGS:
        known = ", ".join(_ENDINGS)
        raise DatasetError(
            f"the format of {name!r} is not clear: the name must end in {known},"
            " or the format must be given"
        )
    return _ENDINGS[ending]


def read(path: Path, format: Format, limits: Limits) -> Iterator[Row | BadRow]:  # noqa: A002 - the word people use
    """Yield each row of the file in order; the bad ones count, too.

    Raises DatasetError where the file as a whole is unusable.
    """
    if format not in READERS:
        raise DatasetError(f"{format.value!r} is no format of a dataset")
    count = 0
    for each in READERS[format](path, limits):
        count += 1
        if count > limits.rows:
            raise DatasetError(f"the file has more than {limits.rows:,} rows; split it")
        yield each
    if not count:
        raise DatasetError("the file holds no rows")


def columns(
    path: Path,
    format: Format,  # noqa: A002 - the word people use
    limits: Limits,
    sample: int = 20,
) -> Sample:
    """Read the first rows, and give the columns that they have, in order.

    Raises DatasetError where not even these can be read.
    """
    first = list(islice(read(path, format, limits), sample))
    rows = tuple(each for each in first if isinstance(each, Row))
    names = dict.fromkeys(name for row in rows for name in row.fields)
    return Sample(
        columns=tuple(names),
        rows=rows,
        faults=tuple(each for each in first if isinstance(each, BadRow)),
    )
