"""Files of a few bytes, and what reading them yields."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from router.jobs.input.readers import (
    NOWHERE,
    BadRow,
    ReadLimits,
    Row,
    Unusable,
    open_dataset,
)
from router.jobs.model import Format

SMALL = ReadLimits(rows=50, row_bytes=200, columns=5, name_characters=20)


def rows(
    path: Path, content: bytes | str, kind: Format, limits: ReadLimits = SMALL, **said
):
    """Write a file and read it whole; each row is found again at its place, too."""
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(raw)
    with open_dataset(path, kind, limits, said) as dataset:
        found = list(dataset.rows())
    places = [row for row in found if isinstance(row, Row) and row.place != NOWHERE]
    with open_dataset(path, kind, limits, said) as dataset:
        for row in [*places[::2], *places[1::2]]:
            again = dataset.at(row.place)
            assert isinstance(again, Row)
            assert row.fields == again.fields
    return [replace(r, place=NOWHERE) if isinstance(r, Row) else r for r in found]


def sample(path: Path, content: bytes | str, kind: Format, **said):
    """Write a file and look at its beginning."""
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(raw)
    with open_dataset(path, kind, ReadLimits(), said) as dataset:
        return dataset.sample()


def fields(read_rows):
    """The fields of rows, the text of a complaint for bad ones."""
    return [dict(r.fields) if isinstance(r, Row) else r.text for r in read_rows]


def good(read_rows):
    return [dict(r.fields) for r in read_rows if isinstance(r, Row)]


def bad(read_rows):
    return [r for r in read_rows if isinstance(r, BadRow)]


def reasons(read_rows):
    """Why values cannot be used, by column."""
    return {
        name: value.reason
        for row in read_rows
        if isinstance(row, Row)
        for name, value in row.fields.items()
        if isinstance(value, Unusable)
    }
