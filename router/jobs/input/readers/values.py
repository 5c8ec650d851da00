"""JSON values as a job can use them: finite, plain, without doubt; no I/O."""

from __future__ import annotations

import json
import re
from collections import Counter
from math import isfinite
from typing import Any

from router.jobs.input.readers.rows import Unusable

_LONGEST_NUMBER = 400
_SPACE = re.compile(r"[ \t\n\r]*")
# What the json module says, in our words.
_FAULTS = (
    ("Unterminated string", "a text in quotes does not end"),
    ("Expecting property name", "a name in double quotes is missing here"),
    ("Expecting value", "a value is missing here"),
    ("Expecting ',' delimiter", "a comma is missing here"),
    ("Expecting ':' delimiter", "a colon is missing here"),
    ("Illegal trailing comma", "a comma stands before the closing bracket"),
    ("Invalid control character", "a control character stands in a text; escape it"),
    ("Invalid \\u", "\\u must be followed by four hexadecimal digits"),
    ("Invalid \\escape", "a backslash must be written twice"),
)


class JsonReader:
    """Reads one value at a time; what JSON cannot say, or says twice, is no error.

    NaN becomes null, as tables write a missing number; infinity and numbers that are
    too large become the text that they were written as. A name given twice in one
    object has no usable value.
    """

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )

    def read(self, text: str, start: int = 0) -> tuple[Any, int]:
        """Return the value at `start` and where it ends.

        Raises json.JSONDecodeError, with the place, and RecursionError.
        """
        return self._decoder.raw_decode(text, start)


def fault(error: json.JSONDecodeError) -> str:
    """Say what is wrong with a JSON text, and the way out where it is known."""
    what = next((ours for theirs, ours in _FAULTS if error.msg.startswith(theirs)), "")
    message = f"not JSON: {what or 'it cannot be read from here on'}"
    if error.doc[error.pos : error.pos + 1] == "'":
        message += "; names and texts stand in double quotes"
    return message


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        for name, count in Counter(name for name, _ in pairs).items():
            if count > 1:
                made[name] = Unusable(f"the name {name[:200]!r} stands {count} times")
    return made


def _constant(text: str) -> str | None:
    return None if text == "NaN" else text


def _float(text: str) -> float | str:
    number = float(text)
    return number if isfinite(number) else text


def _int(text: str) -> int | str:
    return int(text) if len(text) <= _LONGEST_NUMBER else text


def skip_space(text: str, start: int) -> int:
    """Return where the next thing that is not white space stands."""
    found = _SPACE.match(text, start)
    return found.end() if found else start


def name_of(value: object) -> str:
    """Say what a JSON value is, for messages."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
