"""A dataset of whichever format, opened, with the bounds that hold for all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePath

from router.errors import DatasetError
from router.jobs.input.readers.formats import (
    COMPRESSED,
    FORMATS,
    ColumnReader,
    Opening,
    Reader,
)
from router.jobs.input.readers.rows import BadRow, ReadLimits, Row
from router.jobs.model import Format

_ENDINGS = dict(
    sorted((ending, key) for key, each in FORMATS.items() for ending in each.endings)
)
_WORKBOOKS = (".xls", ".xlsx", ".ods", ".numbers")


@dataclass(frozen=True, slots=True)
class DatasetSample:
    """The beginning of a file, to be shown.

    reading: how it was read: encoding, delimiter, header
    notes:   what was guessed or left out
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    faults: tuple[BadRow, ...]
    reading: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """An open dataset."""

    reader: Reader
    opening: Opening

    def names(self) -> tuple[str, ...]:
        return self.reader.names()

    def notes(self) -> tuple[str, ...]:
        """Return what was guessed or left out so far."""
        return tuple(self.opening.notes.texts())

    def rows(self, wanted: Collection[str] | None = None) -> Iterator[Row | BadRow]:
        """Yield each row of the file in order; the bad ones count, too.

        Raises DatasetError where the file as a whole is unusable.
        """
        most = self.opening.limits.rows
        count = 0
        for each in self.reader.rows(wanted):
            count += 1
            if count > most:
                raise DatasetError(
                    f"the file has more than {most:,} rows (jobs.max_items); split it"
                )
            yield each
        if not count:
            raise DatasetError("the file holds no rows")

    def at(self, place: int, wanted: Collection[str] | None = None) -> Row | BadRow:
        return self.reader.at(place, wanted)

    def sample(
        self, count: int = 20, show: Callable[[object], object] = lambda value: value
    ) -> DatasetSample:
        """Read the first rows, and give the columns that they have, in order.

        show: what is kept of each value
        Raises DatasetError where none of them can be read.
        """
        first = self._first(count, show)
        rows = tuple(each for each in first if isinstance(each, Row))
        faults = tuple(each for each in first if isinstance(each, BadRow))
        if not rows:
            why = f"no row can be read: {faults[0].text}" if faults else ""
            raise DatasetError(why or "the file holds no rows")
        names = dict.fromkeys(self.names())
        names |= dict.fromkeys(name for row in rows for name in row.fields)
        reading = self.opening.reading
        return DatasetSample(tuple(names), rows, faults, reading, self.notes())

    def _first(
        self, count: int, show: Callable[[object], object]
    ) -> list[Row | BadRow]:
        if isinstance(self.reader, ColumnReader):
            return list(self.reader.sample(count, show))
        return [
            replace(row, fields={name: show(v) for name, v in row.fields.items()})
            if isinstance(row, Row)
            else row
            for row in islice(self.rows(), count)
        ]


@contextmanager
def open_dataset(
    path: Path,
    format: Format,  # noqa: A002 - the word people use
    limits: ReadLimits,
    options: Mapping[str, object] | None = None,
) -> Iterator[Dataset]:
    """Open a file; `options` is what somebody said of it. Raises DatasetError."""
    if format not in FORMATS:
        raise DatasetError(f"{format.value!r} is not a format of a dataset")
    opening = Opening(path, limits, options or {})
    with FORMATS[format].open(opening) as reader:
        yield Dataset(reader, opening)


def format_of(name: str) -> Format:
    """Tell a file's format by the ending of its name. Raises DatasetError."""
    path = PurePath(name.lower())
    compressed = path.suffix in COMPRESSED
    ending = PurePath(path.stem).suffix if compressed else path.suffix
    if ending in _WORKBOOKS:
        raise DatasetError(f"{name!r} is a spreadsheet; save it as CSV (UTF-8)")
    if ending not in _ENDINGS:
        known = ", ".join(_ENDINGS)
        raise DatasetError(
            f"the format of {name!r} is not clear: the name must end in {known},"
            " or the format must be given"
        )
    found = FORMATS[_ENDINGS[ending]]
    if compressed and not found.compresses:
        raise DatasetError(
            f"{name!r}: {found.title} is compressed inside; upload the {ending} itself"
        )
    return _ENDINGS[ending]
