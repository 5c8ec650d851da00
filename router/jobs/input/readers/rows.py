"""Rows of a dataset, the bounds on them, and notes on how they were read; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.errors import DatasetError, at

MIB = 1024 * 1024
NOWHERE = -1  # the place of a row that cannot be read again by itself
_MOST_NOTES = 20
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be used.

    index:  counts rows from 0, bad ones included
    fields: JSON values, or `Unusable`, by the name of their column
    line:   where it begins in the file; in Parquet, the row counted from 1
    place:  what `Reader.at` takes to read it again: the byte at which it begins, or
            the number of the row in Parquet
    """

    index: int
    fields: Mapping[str, object]
    line: int = 0
    place: int = NOWHERE


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used; line and column count from 1, in characters."""

    index: int
    line: int
    column: int | None
    message: str

    @property
    def text(self) -> str:
        return at(self.line, self.column) + self.message


@dataclass(frozen=True, slots=True)
class Unusable:
    """A value that cannot be written into a prompt.

    It fails its row only where the template uses it.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How large things may be.

    rows:        of a file
    file_bytes:  of a file, uncompressed
    row_bytes:   of one row: its text, or what a Parquet row unfolds to
    columns:     of a table
    name_characters: of a column's name
    again_bytes: of a CSV file that are read twice, after quotes left open
    chunk_bytes: of a JSON document that are read at one time, at first
    """

    rows: int = 1_000_000
    file_bytes: int = 1024 * MIB
    row_bytes: int = 4 * MIB
    columns: int = 1_000
    name_characters: int = 1_000
    again_bytes: int = 64 * MIB
    chunk_bytes: int = 64 * 1024


@dataclass(slots=True)
class Notes:
    """What was guessed about a file or left out of it, for people to check.

    Each note is kept once, with how often it applied and where it did first.
    """

    _found: dict[str, tuple[int, int | None]] = field(default_factory=dict)

    def add(self, text: str, line: int | None = None) -> None:
        count, first = self._found.get(text, (0, line))
        if count or len(self._found) < _MOST_NOTES:
            self._found[text] = (count + 1, first)

    def texts(self) -> list[str]:
        return [_note(text, *where) for text, where in self._found.items()]


def _note(text: str, count: int, line: int | None) -> str:
    if line is None:
        return text
    if count == 1:
        return f"line {line}: {text}"
    return f"{count:,} lines, the first is line {line}: {text}"


def usable_names(
    names: Sequence[str], limits: ReadLimits, notes: Notes, line: int | None = None
) -> list[str]:
    """Give each column a name of its own: blank and repeated names get a number.

    Raises DatasetError where there are too many, or one is too long.
    """
    if len(names) > limits.columns:
        raise DatasetError(
            f"the file has {len(names):,} columns, at most {limits.columns:,} can be"
            " used; leave out those that no prompt needs",
            line=line,
        )
    for name in names:
        if len(name) > limits.name_characters:
            raise DatasetError(
                f"the column name {name[:40]!r}... is longer than"
                f" {limits.name_characters:,} characters; shorten it",
                line=line,
            )
    taken = {name for name in names if name}
    return _renamed(names, taken, notes)


def _renamed(names: Sequence[str], taken: set[str], notes: Notes) -> list[str]:
    found: list[str] = []
    used: set[str] = set()
    for number, name in enumerate(names, start=1):
        free = name
        if not name:
            free = _free_name("column", number, taken)
            notes.add(f"column {number} has no name and is called {free!r}")
        elif name in used:
            free = _free_name(name, 2, taken)
            notes.add(f"column {number} is named {name!r} again and is called {free!r}")
        found.append(free)
        used.add(free)
        taken.add(free)
    return found


def _free_name(name: str, number: int, taken: set[str]) -> str:
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def trimmed(name: str) -> str:
    """Take blanks, line breaks and byte order marks off a column's name."""
    return " ".join(name.replace(_BOM, "").split())
