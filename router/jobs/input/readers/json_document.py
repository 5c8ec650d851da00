"""A JSON document: a list of objects, or an object that holds lists.

`[{"a": 1}, …]` and `{"rows": [{"a": 1}, …], …}` are read as a stream, however
long. `{"a": [1, …], "b": [2, …]}`, a list for each column, is read at once and
therefore bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from router.errors import DatasetError
from router.jobs.input.readers.jsonl import checked
from router.jobs.input.readers.rows import MIB, BadRow, Limits, Row, check_names
from router.jobs.input.readers.text import open_text
from router.jobs.input.readers.window import Window

_COLUMNS_CHARACTERS = 8 * MIB
_SHAPES = '[{"name": value}, ...], or an object that holds such a list'


def read(path: Path, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield a row for each object. Raises DatasetError."""
    with open_text(path) as file:
        window = Window(file, limits.chunk_bytes)
        opening = window.peek()
        if opening == "[":
            window.take()
            yield from _elements(window, limits)
        elif opening == "{":
            yield from _members(window, limits)
        elif opening:
            raise window.wrong(f"a dataset must be {_SHAPES}")
        if window.peek():
            raise window.wrong(
                "there is more behind the document; for one object a line the"
                " format is jsonl"
            )


def _elements(window: Window, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield rows from behind a `[` on, and end behind its `]`."""
    index = 0
    if window.peek() == "]":
        window.take()
        return
    while True:
        window.peek()
        line, column = window.place()
        value, complaint = window.value(limits.row_bytes)
        if complaint:
            message, line, column = complaint
            yield BadRow(index, line, column, message)
        else:
            yield checked(value, index, line, column, limits)
        index += 1
        _expect(window, ",]", "between two rows")
        if window.take() == "]":
            return


def _members(window: Window, limits: Limits) -> Iterator[Row | BadRow]:
    """Look for rows in an object's members; else its lists are columns."""
    window.take()
    rows_in = ""
    columns: dict[str, list[Any]] = {}
    while window.peek() != "}":
        name = _name(window, limits)
        if window.peek() != "[":
            window.value(limits.row_bytes)  # beside the rows: not ours
        elif _holds_objects(window):
            if rows_in:
                raise window.wrong(
                    f"there are rows in {rows_in!r} already; two lists of rows are"
                    " not clear"
                )
            rows_in = name
            yield from _elements(window, limits)
        else:
            _add_column(window, columns, name)
        if _expect(window, ",}", "between two members") == ",":
            window.take()
            _expect(window, '"', "where a name begins")
    window.take()
    if not rows_in:
        yield from _from_columns(columns, limits)


def _name(window: Window, limits: Limits) -> str:
    _expect(window, '"', "where a name begins")
    name, _ = window.value(limits.row_bytes)
    _expect(window, ":", "behind a name")
    window.take()
    return str(name)


def _expect(window: Window, wanted: str, where: str) -> str:
    found = window.peek()
    if not found or found not in wanted:
        options = " or ".join(repr(each) for each in wanted)
        got = repr(found) if found else "the end of the file"
        raise window.wrong(f"not JSON: expected {options} {where}, got {got}")
    return found


def _holds_objects(window: Window) -> bool:
    """Look behind a `[`, and stay there if there is an object."""
    window.take()
    return window.peek() == "{"


def _add_column(window: Window, columns: dict[str, list[Any]], name: str) -> None:
    """Take the rest of a list whose `[` is behind us."""
    if name in columns:
        raise window.wrong(f"the name {name!r} stands twice in one object")
    values: list[Any] = []
    columns[name] = values
    while window.peek() != "]":
        value, complaint = window.value(_COLUMNS_CHARACTERS)
        if complaint:
            message, line, column = complaint
            raise DatasetError(message, line=line, column=column)
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


def _from_columns(columns: dict[str, list[Any]], limits: Limits) -> Iterator[Row]:
    if not columns:
        raise DatasetError(f"the object holds no list: a dataset must be {_SHAPES}")
    check_names(list(columns), limits, line=None, places=[])
    lengths = {name: len(values) for name, values in columns.items()}
    name, length = next(iter(lengths.items()))
    for other, its in lengths.items():
        if its != length:
            raise DatasetError(
                f"column {name!r} has {length:,} values and {other!r} has {its:,}"
            )
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        yield Row(index, dict(zip(columns, values, strict=True)), index + 1)
