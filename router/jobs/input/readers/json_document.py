"""A JSON document: a list of objects, an object that holds lists, or one of objects.

`[{"a": 1}, …]` and `{"rows": [{"a": 1}, …], …}` are read as a stream, however
long. `{"a": [1, …], "b": [2, …]}`, a list for each column, is read at once and
therefore bounded; so is `{"a": {"0": 1, …}, …}`, as pandas writes a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from router.errors import DatasetError
from router.jobs.input.readers.jsonl import checked
from router.jobs.input.readers.rows import (
    MIB,
    NOWHERE,
    BadRow,
    Notes,
    ReadLimits,
    Row,
    usable_names,
)
from router.jobs.input.readers.text import TextFile
from router.jobs.input.readers.window import SlidingWindow

_COLUMNS_CHARACTERS = 8 * MIB
_SHAPES = '[{"name": value}, ...], or an object that holds such a list'


class JsonDocument:
    """An open document; a `Reader`."""

    def __init__(self, opened: TextFile, limits: ReadLimits, notes: Notes) -> None:
        self._opened = opened
        self._limits = limits
        self._notes = notes
        self._window = SlidingWindow(opened.file, limits.chunk_bytes)
        self._begin = opened.file.tell() if opened.seekable else NOWHERE

    def names(self) -> tuple[str, ...]:
        return ()  # each row has its own

    def rows(self, _wanted: Collection[str] | None = None) -> Iterator[Row | BadRow]:
        """Yield a row for each object. Raises DatasetError."""
        window = self._window
        opening = window.peek()
        if opening == "[":
            window.take()
            yield from self._elements()
        elif opening == "{":
            yield from self._members()
        elif opening:
            raise window.wrong(f"a dataset must be {_SHAPES}")
        if window.peek():
            raise window.wrong(
                "there is more after the document; for one object a line the"
                " format is jsonl"
            )

    def at(self, place: int, _wanted: Collection[str] | None = None) -> Row | BadRow:
        """Read the object that begins at a byte."""
        self._opened.file.seek(place)
        window = SlidingWindow(self._opened.file, self._limits.chunk_bytes)
        value, complaint = window.value(self._limits.row_bytes)
        if complaint:
            return BadRow(0, 0, None, complaint)
        return checked(value, 0, (0, 0, place), self._limits)

    def _elements(self) -> Iterator[Row | BadRow]:
        """Yield rows from behind a `[` on, and end behind its `]`."""
        window, index = self._window, 0
        if window.peek() == "]":
            window.take()
            return
        while True:
            window.peek()
            place = (*window.place(), self._offset())
            value, complaint = window.value(self._limits.row_bytes)
            if complaint:
                yield BadRow(index, *place[:2], complaint)
            else:
                yield checked(value, index, place, self._limits)
            index += 1
            _expect(window, ",]", "between two rows")
            if window.take() == "]":
                return

    def _offset(self) -> int:
        return (
            NOWHERE if self._begin == NOWHERE else self._begin + self._window.offset()
        )

    def _members(self) -> Iterator[Row | BadRow]:
        """Look for rows in an object's members; else its lists are columns."""
        window = self._window
        window.take()
        rows_in = ""
        columns: dict[str, list[Any]] = {}
        objects: dict[str, Any] = {}
        while window.peek() != "}":
            name = _name(window, self._limits)
            if window.peek() != "[":
                _add_object(window, objects, name)
            elif _holds_objects(window):
                if rows_in:
                    raise window.wrong(
                        f"there are rows in {rows_in!r} already; leave one of the two"
                        " lists"
                    )
                rows_in = name
                yield from self._elements()
            else:
                _add_column(window, columns, name)
            if _expect(window, ",}", "between two members") == ",":
                window.take()
                _expect(window, '"', "where a name begins")
        window.take()
        if not rows_in:
            yield from self._of_members(columns, objects)

    def _of_members(
        self, columns: dict[str, list[Any]], beside: dict[str, Any]
    ) -> Iterator[Row]:
        """Read a list for each column; or the object itself, where it is one row."""
        tables = columns or _transposed(beside)
        if tables and len(tables) >= len(beside.keys() - tables.keys()):
            if left := [repr(name) for name in beside if name not in tables]:
                self._notes.add(f"members that are not lists are left out: {left[0]}")
            yield from _from_columns(tables, self._limits, self._notes)
        elif beside:
            self._notes.add("the document is one object: read as one row")
            yield Row(0, {**beside, **columns}, 1)
        else:
            raise DatasetError(f"the object holds no list: a dataset must be {_SHAPES}")


def _name(window: SlidingWindow, limits: ReadLimits) -> str:
    _expect(window, '"', "where a name begins")
    name, _ = window.value(limits.row_bytes)
    _expect(window, ":", "behind a name")
    window.take()
    return str(name)


def _expect(window: SlidingWindow, wanted: str, where: str) -> str:
    found = window.peek()
    if not found or found not in wanted:
        options = " or ".join(repr(each) for each in wanted)
        got = repr(found) if found else "the end of the file"
        raise window.wrong(f"not JSON: expected {options} {where}, got {got}")
    return found


def _holds_objects(window: SlidingWindow) -> bool:
    """Look behind a `[`, and stay there if there is an object."""
    window.take()
    return window.peek() == "{"


def _add_column(
    window: SlidingWindow, columns: dict[str, list[Any]], name: str
) -> None:
    """Take the rest of a list whose `[` is behind us."""
    if name in columns:
        raise window.wrong(f"the name {name!r} stands twice in one object")
    values: list[Any] = []
    columns[name] = values
    while window.peek() != "]":
        value, complaint = window.value(_COLUMNS_CHARACTERS)
        if complaint:
            raise window.wrong(complaint)
        values.append(value)
        if _expect(window, ",]", "between two values") == ",":
            window.take()
            if window.peek() == "]":
                raise window.wrong("not JSON: a value must follow the comma")
        if window.taken > _COLUMNS_CHARACTERS:
            raise window.wrong(
                f"a list for each column may have {_COLUMNS_CHARACTERS:,} characters;"
                f" write {_SHAPES}, or jsonl"
            )
    window.take()


def _add_object(window: SlidingWindow, objects: dict[str, Any], name: str) -> None:
    """Keep what may be a column of a table as pandas writes it by default."""
    value, _ = window.value(_COLUMNS_CHARACTERS)
    if window.taken <= _COLUMNS_CHARACTERS:
        objects[name] = value


def _transposed(objects: dict[str, Any]) -> dict[str, list[Any]]:
    """Read `{"a": {"0": 1, "1": 2}, "b": {…}}`: the same rows in each member."""
    rows = [set(each) if isinstance(each, dict) else None for each in objects.values()]
    if not rows or rows[0] is None or any(each != rows[0] for each in rows):
        return {}
    order = list(next(iter(objects.values())))
    return {name: [each[row] for row in order] for name, each in objects.items()}


def _from_columns(
    columns: dict[str, list[Any]], limits: ReadLimits, notes: Notes
) -> Iterator[Row]:
    names = usable_names(list(columns), limits, notes)
    lengths = {name: len(values) for name, values in columns.items()}
    name, length = next(iter(lengths.items()))
    for other, its in lengths.items():
        if its != length:
            raise DatasetError(
                f"column {name!r} has {length:,} values and {other!r} has {its:,}"
            )
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        yield Row(index, dict(zip(names, values, strict=True)), index + 1)
