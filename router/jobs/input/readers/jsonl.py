"""JSONL: one object a line. Blank lines are no rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from router.jobs.input.readers.rows import BadRow, Limits, Row
from router.jobs.input.readers.text import Line, lines, open_text
from router.jobs.input.readers.values import JsonReader, name_of, skip_space


def read(path: Path, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield a row for each line that is not blank. Raises DatasetError."""
    reader = JsonReader()
    index = 0
    with open_text(path) as file:
        for line in lines(file, limits.row_bytes):
            if not line.fault and not line.text.strip():
                continue
            yield _row(reader, index, line, limits)
            index += 1


def _row(reader: JsonReader, index: int, line: Line, limits: Limits) -> Row | BadRow:
    def bad(message: str, column: int | None) -> BadRow:
        return BadRow(index, line.number, column, message)

    if line.fault:
        return bad(line.fault, line.column)
    start = skip_space(line.text, 0)
    try:
        value, end = reader.read(line.text, start)
    except json.JSONDecodeError as error:
        return bad(f"not JSON: {error.msg.lower()}", error.pos + 1)
    except RecursionError:
        return bad("lists and objects are nested too deep", start + 1)
    rest = skip_space(line.text, end)
    if rest < len(line.text):
        return bad("there is more behind the object; one object a line", rest + 1)
    if reader.complaint:
        column = reader.place(line.text, start, end) + 1
        return bad(reader.complaint[0], column)
    return checked(value, index, line.number, start + 1, limits)


def checked(
    value: object, index: int, line: int, column: int, limits: Limits
) -> Row | BadRow:
    """Take a JSON value as a row: it must be an object of not too many columns."""
    if not isinstance(value, dict):
        return BadRow(
            index, line, column, f"a row must be an object, got {name_of(value)}"
        )
    if len(value) > limits.columns:
        message = f"the object has {len(value):,} names, at most {limits.columns:,}"
        return BadRow(index, line, column, f"{message} can be used")
    return Row(index, value, line)
