"""Which character parts the fields of a CSV file, and where each field begins.

The csv module's own Sniffer guesses from quotes by expressions that take minutes on
some files, and takes letters for delimiters.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from typing import BinaryIO

from router.errors import DatasetError

_DELIMITERS = (",", ";", "\t", "|")  # the first wins where nothing tells
_SAMPLE_BYTES = 64 * 1024
_SAMPLE_RECORDS = 50


def sniff(file: BinaryIO) -> str:
    """Look at the beginning, and go back to where the file was."""
    start = file.tell()
    raw = file.read(_SAMPLE_BYTES)
    file.seek(start)
    whole = raw if len(raw) < _SAMPLE_BYTES else raw[: raw.rfind(b"\n") + 1] or raw
    if b"\r" in whole and b"\n" not in whole:
        raise DatasetError(
            "lines end with a carriage return only; save the file with line feeds"
        )
    sample = [f"{line}\n" for line in whole.decode("utf-8", "replace").split("\n")]
    return max(_DELIMITERS, key=lambda delimiter: _agreement(sample, delimiter))


def _agreement(sample: list[str], delimiter: str) -> tuple[float, int]:
    """Give the share of records with as many fields as the first, and how many."""
    counts = _field_counts(sample, delimiter)
    if not counts or counts[0] < 2:
        return 0.0, 0
    return Counter(counts)[counts[0]] / len(counts), counts[0]


def _field_counts(sample: list[str], delimiter: str) -> list[int]:
    counts: list[int] = []
    reader = csv.reader(sample, delimiter=delimiter)
    try:
        for record in reader:
            if record:
                counts.append(len(record))
            if len(counts) >= _SAMPLE_RECORDS:
                break
    except csv.Error:
        return counts  # what follows does not change how the fields are parted
    return counts


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
