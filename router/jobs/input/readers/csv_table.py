"""CSV: delimiter and names by looking, quotes as in RFC 4180, values are texts.

Blank lines are not rows. A row that is wrong never takes the lines behind it along,
also where a quote was left open.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Collection, Iterator, Mapping

from router.errors import DatasetError, SourceError
from router.jobs.input.readers.dialect import asked_of, beginning, field_places, look
from router.jobs.input.readers.rows import (
    BadRow,
    Notes,
    ReadLimits,
    Row,
    Unusable,
    trimmed,
    usable_names,
)
from router.jobs.input.readers.text import TextFile, TextLine, damage, lines

_SHORT = "the row has fewer fields than there are names; those columns are missing"
_EMPTY_END = "empty fields behind the last named column are left out"
_EMPTY_ROW = "rows without any value are left out"
_NAMES_AGAIN = "the names stand here again; the line is left out"
_DOS_END = "\x1a"
_CSV_FAULTS = (
    ("new-line", "a carriage return stands inside a field; put the field in quotes"),
    ("field larger", "a field is too long (jobs.max_line_bytes)"),
    ("line contains NUL", "there is a NUL byte"),
)


class CsvTable:
    """An open table; a `Reader`."""

    def __init__(
        self,
        opened: TextFile,
        limits: ReadLimits,
        notes: Notes,
        options: Mapping[str, object],
    ) -> None:
        # Fields may be as long as rows; the csv module keeps its bound for all.
        csv.field_size_limit(max(csv.field_size_limit(), limits.row_bytes))
        self._opened = opened
        self._limits = limits
        self._notes = notes
        text = beginning(opened.file)
        self.dialect = look(opened.file, asked_of(options), notes, text)
        self._feed = _Feed(opened, limits, self.dialect.skipped)
        self._records = self._read(self._feed)
        self._head: list[str] = []
        self._first: list[str] | None = None
        self._names = self._read_names()

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def rows(self, _wanted: Collection[str] | None = None) -> Iterator[Row | BadRow]:
        """Yield a row for each record behind the names."""
        index = 0
        if self._first is not None and (row := self._row(self._first, 0, self._feed)):
            yield row
            index = 1
        for record in self._records:
            row = self._made(record, index, self._feed)
            if row is not None:
                yield row
                index += 1

    def at(self, place: int, _wanted: Collection[str] | None = None) -> Row | BadRow:
        """Read the record that begins at a byte."""
        self._opened.file.seek(place)
        feed = _Feed(self._opened, self._limits)
        record = next(self._read(feed), None)
        row = None if record is None else self._made(record, 0, feed)
        return row or BadRow(0, 0, None, "the row is not there any more")

    def _read_names(self) -> list[str]:
        for _ in range(self.dialect.titles):
            next(self._records, None)
        first = next(self._records, None)
        if first is None:
            raise DatasetError("the file is empty")
        if isinstance(first, _BrokenError):
            raise DatasetError(first.message, line=first.line, column=first.column)
        line = self._feed.record[0].number
        if not self.dialect.header:
            self._first = first
            blank = [""] * len(first)
            return usable_names(blank, self._limits, Notes(), line)
        self._head = first
        names = [trimmed(name) for name in first]
        for name in names:
            if reason := damage(name):
                raise DatasetError(f"a column's name: {reason}", line=line)
        return usable_names(names, self._limits, self._notes, line)

    def _read(self, feed: _Feed) -> Iterator[list[str] | _BrokenError]:
        reader = csv.reader(
            feed,
            delimiter=self.dialect.delimiter,
            skipinitialspace=self.dialect.blanks,
            strict=True,
        )
        while True:
            feed.begin()
            try:
                record = next(reader)
            except StopIteration:
                return
            except _BrokenError as error:
                yield _settled(feed, error, self.dialect.delimiter)
            except csv.Error as error:
                broken = _BrokenError(_in_words(str(error)))
                yield _settled(feed, broken, self.dialect.delimiter)
            else:
                if record and not _blank(record):
                    yield record

    def _made(
        self, record: list[str] | _BrokenError, index: int, feed: _Feed
    ) -> Row | BadRow | None:
        if isinstance(record, _BrokenError):
            return BadRow(index, record.line or 0, record.column, record.message)
        return self._row(record, index, feed)

    def _row(self, record: list[str], index: int, feed: _Feed) -> Row | BadRow | None:
        """Make the row of a record; None for one that is left out."""
        names, line = self._names, feed.record[0].number
        if not any(record):
            self._notes.add(_EMPTY_ROW, line)
            return None
        if len(names) > 1 and record == self._head:
            self._notes.add(_NAMES_AGAIN, line)
            return None
        if len(record) > len(names):
            if any(each.strip() for each in record[len(names) :]):
                return self._too_many(record, index, feed)
            self._notes.add(_EMPTY_END, line)
        elif len(record) < len(names):
            self._notes.add(_SHORT, line)
        fields: dict[str, object] = dict(zip(names, record, strict=False))
        if feed.damaged:
            fields = {name: _checked(str(value)) for name, value in fields.items()}
        return Row(index, fields, line, feed.record[0].offset)

    def _too_many(self, record: list[str], index: int, feed: _Feed) -> BadRow:
        delimiter, count = self.dialect.delimiter, len(self._names)
        text, line = feed.text, feed.record[0].number
        place = field_places(text, delimiter)[count]
        line += text.count("\n", 0, place)
        column = place - text.rfind("\n", 0, place)
        return BadRow(
            index,
            line,
            column,
            f"the row has {len(record)} fields, there are {count} names; a"
            f" {delimiter!r} inside a value must stand in quotes",
        )


class _BrokenError(SourceError):
    """A record that cannot be read."""


class _Feed:
    """Lines for the csv module, and the lines of the record that it is in."""

    def __init__(self, opened: TextFile, limits: ReadLimits, before: int = 0) -> None:
        self._lines = lines(
            opened.file, limits.row_bytes, seekable=opened.seekable, before=before
        )
        self._pushed: deque[TextLine] = deque()
        self._limits = limits
        self._size = 0
        self._again = 0
        self.record: list[TextLine] = []

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
            raise _BrokenError("the row is too long (jobs.max_line_bytes)")
        return line.text

    @property
    def text(self) -> str:
        return "".join(line.text for line in self.record)

    @property
    def damaged(self) -> bool:
        """Whether some bytes of the record could not be decoded."""
        return any(line.damaged for line in self.record)

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


def _settled(feed: _Feed, error: _BrokenError, delimiter: str) -> _BrokenError:
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
    return _BrokenError(error.message, line=first.number, column=1)


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


def _in_words(error: str) -> str:
    """Say what the csv module complains of."""
    for begins, ours in _CSV_FAULTS:
        if error.startswith(begins):
            return f"not CSV: {ours}"
    return "not CSV: the quotes are not clear"


def _blank(record: list[str]) -> bool:
    """Say whether it is a line of blanks, or the end of a DOS file."""
    return len(record) == 1 and not record[0].strip(f" \t{_DOS_END}")


def _checked(value: str) -> object:
    reason = damage(value)
    return Unusable(reason) if reason else value
