"""Files of a few bytes, and what reading them yields."""

from __future__ import annotations

from pathlib import Path

from router.jobs.input.readers import BadRow, Limits, Row, read
from router.jobs.model import Format

SMALL = Limits(rows=50, row_bytes=200, columns=5, name_characters=20)


def rows(path: Path, content: bytes | str, kind: Format, limits: Limits = SMALL):
    """Write a file and read it whole."""
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(raw)
    return list(read(path, kind, limits))


def fields(read_rows):
    """The fields of rows, the text of a complaint for bad ones."""
    return [dict(r.fields) if isinstance(r, Row) else r.text for r in read_rows]


def good(read_rows):
    return [dict(r.fields) for r in read_rows if isinstance(r, Row)]


def bad(read_rows):
    return [r for r in read_rows if isinstance(r, BadRow)]
