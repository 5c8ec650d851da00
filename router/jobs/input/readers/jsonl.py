"""JSONL: one object a line. Blank lines are not rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from router.jobs.input.readers.rows import BadRow, ReadLimits, Row
from router.jobs.input.readers.text import TextFile, TextLine, lines
from router.jobs.input.readers.values import JsonReader, fault, name_of, skip_space


class JsonLines:
    """An open file of lines; a `Reader`."""

    def __init__(self, opened: TextFile, limits: ReadLimits) -> None:
        self._opened = opened
        self._limits = limits
        self._json = JsonReader()

    def names(self) -> tuple[str, ...]:
        return ()  # each row has its own

    def rows(self, _wanted: Collection[str] | None = None) -> Iterator[Row | BadRow]:
        """Yield a row for each line that is not blank."""
        index = 0
        for line in self._lines():
            if line.text.strip() or line.fault:
                yield self._row(index, line)
                index += 1

    def at(self, place: int, _wanted: Collection[str] | None = None) -> Row | BadRow:
        """Read the line that begins at a byte."""
        self._opened.file.seek(place)
        return self._row(0, next(self._lines()))

    def _lines(self) -> Iterator[TextLine]:
        opened = self._opened
        return lines(opened.file, self._limits.row_bytes, seekable=opened.seekable)

    def _row(self, index: int, line: TextLine) -> Row | BadRow:
        def bad(message: str, column: int | None) -> BadRow:
            return BadRow(index, line.number, column, message)

        if line.fault:
            return bad(line.fault, line.column)
        start = skip_space(line.text, 0)
        try:
            value, end = self._json.read(line.text, start)
        except json.JSONDecodeError as error:
            return bad(fault(error), error.pos + 1)
        except RecursionError:
            return bad("lists and objects are nested too deep", start + 1)
        rest = skip_space(line.text, end)
        if rest < len(line.text):
            return bad("there is more after the object; one object a line", rest + 1)
        place = (line.number, start + 1, line.offset)
        return checked(value, index, place, self._limits)


def checked(
    value: object, index: int, place: tuple[int, int, int], limits: ReadLimits
) -> Row | BadRow:
    """Take a JSON value as a row: it must be an object of not too many columns.

    place: its line and column, and what to read it again by
    """
    line, column, offset = place
    if not isinstance(value, dict):
        message = f"a row must be an object, got {name_of(value)}"
        return BadRow(index, line, column, message)
    if len(value) > limits.columns:
        message = f"the object has {len(value):,} names, at most {limits.columns:,}"
        return BadRow(index, line, column, f"{message} can be used")
    return Row(index, value, line, offset)
