"""How a CSV file is written: what parts its fields, and whether it begins with names.

The csv module's own Sniffer guesses from quotes by expressions that take minutes on
some files, and takes letters for delimiters.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from router.errors import DatasetError
from router.jobs.input.readers.rows import Notes

_DELIMITERS = (",", ";", "\t", "|")  # the first wins where nothing tells
_WORDS = {",": "comma", ";": "semicolon", "\t": "tabulator", "|": "vertical bar"}
_SAMPLE_BYTES = 64 * 1024
_SAMPLE_RECORDS = 50
_FEW_RECORDS = 3
_SHARE = 0.7  # of the records that have as many fields as most, where line 1 does not
_SEP = re.compile(r'"?sep=(\t|[^\w\s"])"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?[\d.,' ]*\d\s*%?\s*")
_QUOTED = re.compile(r' +"')
_YEAR = re.compile(r"\s*(?:19|20)\d\d\s*")


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """What was found out, or was given.

    header: whether the first record holds names
    blanks: whether blanks after a delimiter are left out
    skipped: lines before the first record
    titles:  records above the names
    """

    delimiter: str
    header: bool = True
    blanks: bool = False
    skipped: int = 0
    titles: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody said of a CSV file; None: to be found out."""

    delimiter: str | None = None
    header: bool | None = None


def look(file: BinaryIO, asked: Asked, notes: Notes, text: str) -> CsvDialect:
    """Look at the beginning of a file, given as `text`; skip a line `sep=;`.

    A note says what is a guess.
    """
    sample = [f"{line}\n" for line in text.split("\n")]
    given, skipped = asked.delimiter, 0
    if found := _SEP.fullmatch(sample[0].lstrip("\ufeff")):
        file.readline()
        sample, skipped = sample[1:], 1
        given = given or found[1]
    delimiter = given or max(_DELIMITERS, key=lambda each: _agreement(sample, each))
    records = _records(sample, delimiter)
    blanks = any(_QUOTED.match(each) for record in records for each in record)
    if blanks:
        notes.add("blanks between a delimiter and a quote are left out")
        records = _records(sample, delimiter, blanks=True)
    if given is None and delimiter != "," and records and len(records[0]) > 1:
        notes.add(f"the delimiter is a guess: {delimiter_word(delimiter)}")
    titles = _titles(records) if asked.header is None else 0
    if titles:
        notes.add("the lines above the names are left out")
    header = asked.header
    if header is None:
        header = _has_names(records[titles:])
        if not header:
            notes.add(
                "the first line looks like data: columns are called column_1 and so"
                " on; if it holds names, give header=true"
            )
    return CsvDialect(delimiter, header, blanks, skipped, titles)


def beginning(file: BinaryIO) -> str:
    """Read a sample of whole lines, and go back to where the file was."""
    peek = getattr(file, "peek")(_SAMPLE_BYTES)[:_SAMPLE_BYTES]  # noqa: B009
    whole = peek[: peek.rfind(b"\n") + 1] or peek
    text: str = whole.decode("utf-8", "replace")
    return text


def asked_of(options: Mapping[str, object]) -> Asked:
    """Read `delimiter` and `header`. Raises DatasetError."""
    delimiter, header = options.get("delimiter"), options.get("header")
    if delimiter is not None:
        delimiter = {"\\t": "\t", "tab": "\t"}.get(str(delimiter), str(delimiter))
        if len(delimiter) != 1 or delimiter in '"\r\n' or ord(delimiter) > 127:
            raise DatasetError(
                f"delimiter: must be one ASCII character, or 'tab', got"
                f" {delimiter[:20]!r}"
            )
    return Asked(delimiter, header if isinstance(header, bool) else None)


def delimiter_word(delimiter: str) -> str:
    return _WORDS.get(delimiter, repr(delimiter))


def _agreement(sample: list[str], delimiter: str) -> tuple[float, int]:
    """Give the share of records with as many fields as most, and how many."""
    counts = [len(record) for record in _records(sample, delimiter)]
    if not counts:
        return 0.0, 0
    fields, often = Counter(counts).most_common(1)[0]
    share = often / len(counts)
    if counts[0] >= 2:
        return Counter(counts)[counts[0]] / len(counts), counts[0]
    if fields >= 2 and len(counts) >= _FEW_RECORDS and share >= _SHARE:
        return share, fields  # lines above the names have fewer
    return 0.0, 0


def _records(
    sample: list[str], delimiter: str, *, blanks: bool = False
) -> list[list[str]]:
    found: list[list[str]] = []
    reader = csv.reader(sample, delimiter=delimiter, skipinitialspace=blanks)
    try:
        for record in reader:
            if record:
                found.append(record)
            if len(found) >= _SAMPLE_RECORDS:
                break
    except csv.Error:
        return found  # what follows does not change how the fields are parted
    return found


def _titles(records: Sequence[Sequence[str]]) -> int:
    """Count the records above the names: a title alone, while rows have several fields.

    The names are the first record of which every field has a text, and none a number.
    """
    fields = max((len(record) for record in records), default=0)
    if not records or sum(map(bool, records[0])) != 1 or not records[0][0]:
        return 0
    if fields < 2 or (len(records[0]) == fields and fields < _FEW_RECORDS):
        return 0
    for number, record in enumerate(records):
        if len(record) == fields and all(record):
            return 0 if any(map(_NUMBER.fullmatch, record)) else number
    return 0


def _has_names(records: Sequence[Sequence[str]]) -> bool:
    """Say whether the first record holds names.

    It does not where one of its numbers stands above numbers only, and no text above
    numbers only. Years may be names.
    """
    if len(records) < 2:
        return True
    first, rest = records[0], records[1:]
    numbers_above = False
    for column, name in enumerate(first):
        below = [record[column] for record in rest if len(record) > column]
        if not below or not all(_NUMBER.fullmatch(each) for each in below if each):
            continue
        if not name or _YEAR.fullmatch(name):
            return True
        if not _NUMBER.fullmatch(name):
            return True
        numbers_above = True
    return not numbers_above


def field_places(text: str, delimiter: str) -> list[int]:
    """Give the offset of each field of a record; for messages, so never fails."""
    pattern = re.compile(rf'(?:"(?:[^"]|"")*(?:"|\Z))?[^{re.escape(delimiter)}\r\n]*')
    places: list[int] = []
    at = 0
    while True:
        places.append(at)
        found = pattern.match(text, at)
        at = found.end() if found else at
        if not text.startswith(delimiter, at):
            return places
        at += 1
