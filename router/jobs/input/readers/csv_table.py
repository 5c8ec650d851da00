"""CSV with a line of names: delimiter by looking, quotes as in RFC 4180, UTF-8.

Values are texts. Lines that are blank are no rows. A row that is wrong never takes
the lines behind it along, also where a quote was left open.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from router.errors import DatasetError, SourceError
from router.jobs.input.readers.dialect import field_places, sniff
from router.jobs.input.readers.rows import BadRow, Limits, Row, check_names
from router.jobs.input.readers.text import Line, lines, open_text


def read(path: Path, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield a row for each record behind the names. Raises DatasetError."""
    # Fields may be as long as rows; the csv module keeps its bound for all readers.
    csv.field_size_limit(max(csv.field_size_limit(), limits.row_bytes))
    with open_text(path) as file:
        delimiter = sniff(file)
        feed = _Feed(file, limits)
        reader = csv.reader(feed, delimiter=delimiter, strict=True)
        names = _names(feed, reader, delimiter, limits)
        for index, record in enumerate(_records(feed, reader, delimiter)):
            if isinstance(record, _BrokenError):
                yield BadRow(index, record.line or 0, record.column, record.message)
            else:
                yield _row(names, record, index, feed, delimiter)


class _BrokenError(SourceError):
    """A record that cannot be read."""


class _Feed:
    """Lines for the csv module, and the lines of the record that it is in."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._lines = lines(file, limits.row_bytes)
        self._pushed: deque[Line] = deque()
        self._limits = limits
        self._size = 0
        self._again = 0
        self.record: list[Line] = []

    def begin(self) -> None:
        """Note that a new record begins."""
        self.record.clear()
        self._size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._pushed.popleft() if self._pushed else next(self._lines)
        self.record.append(line)
        self._size += len(line.text)
        if line.fault:
            raise _BrokenError(line.fault, line=line.number, column=line.column)
        if self._size > self._limits.row_bytes:
            raise _BrokenError("the row is too long")
        return line.text

    @property
    def text(self) -> str:
        return "".join(line.text for line in self.record)

    def push_back(self) -> None:
        """Give all lines but the first of this record a second chance.

        A file that is full of quotes left open would be read for ever.
        """
        self._again += self._size
        if self._again > self._limits.again_bytes:
            raise DatasetError(
                "too many quotes are left open", line=self.record[0].number
            )
        self._pushed.extendleft(reversed(self.record[1:]))


def _records(
    feed: _Feed, reader: Iterator[list[str]], delimiter: str
) -> Iterator[list[str] | _BrokenError]:
    while True:
        feed.begin()
        try:
            record = next(reader)
        except StopIteration:
            return
        except _BrokenError as error:
            yield _settle(feed, error, delimiter)
        except csv.Error as error:
            yield _settle(feed, _BrokenError(str(error)), delimiter)
        else:
            if record:
                yield record


def _settle(feed: _Feed, error: _BrokenError, delimiter: str) -> _BrokenError:
    """Say what is wrong with a record, where, and go on behind its first line."""
    first = feed.record[0]
    if feed.record[-1].fault:
        feed.record.pop()  # it was told of; those before it may be rows
    if len(feed.record) > 1:
        feed.push_back()
    if error.line is not None:
        return error
    if len(feed.record) == 1 and (column := _stray_quote(first.text, delimiter)):
        what = "a quote ends before its field does; within a field they are doubled"
        return _BrokenError(what, line=first.number, column=column)
    if first.text.count('"') % 2:
        what = "a quote that begins here does not end where its field does"
        column = field_places(first.text, delimiter)[-1] + 1
        return _BrokenError(what, line=first.number, column=column)
    return _BrokenError(f"not CSV: {error.message}", line=first.number, column=1)


def _stray_quote(text: str, delimiter: str) -> int | None:
    """Find the column of a quote that is followed by neither delimiter nor end."""
    for start in field_places(text, delimiter):
        if not text.startswith('"', start):
            continue
        end = start + 1
        while (end := text.find('"', end)) >= 0:
            if not text.startswith('"', end + 1):
                break
            end += 2
        behind = text[end + 1 : end + 2]
        if end >= 0 and behind not in {delimiter, "\r", "\n", ""}:
            return end + 1
    return None


def _names(
    feed: _Feed, reader: Iterator[list[str]], delimiter: str, limits: Limits
) -> list[str]:
    """Read the first record; a column without a name gets its number as one."""
    first = next(_records(feed, reader, delimiter), None)
    if first is None:
        raise DatasetError("the file is empty")
    if isinstance(first, _BrokenError):
        raise DatasetError(first.message, line=first.line, column=first.column)
    names = [
        name.strip() or f"column_{number}" for number, name in enumerate(first, start=1)
    ]
    line = feed.record[0].number
    places = [place + 1 for place in field_places(feed.text, delimiter)]
    check_names(names, limits, line=line, places=places)
    return names


def _row(
    names: list[str], record: list[str], index: int, feed: _Feed, delimiter: str
) -> Row | BadRow:
    line = feed.record[0].number
    if len(record) == len(names):
        return Row(index, dict(zip(names, record, strict=True)), line)
    text = feed.text
    place = len(text.rstrip("\r\n"))
    if len(record) > len(names):
        place = field_places(text, delimiter)[len(names)]
    line += text.count("\n", 0, place)
    column = place - text.rfind("\n", 0, place)
    message = f"the row has {len(record)} fields, the first line names {len(names)}"
    return BadRow(index, line, column, message)
