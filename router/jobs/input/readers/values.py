"""JSON as it must be to go through a job: finite, plain, without doubt; no I/O."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)|-?\d[\d.eE+-]*')
_LONGEST_NUMBER = 400
_SPACE = re.compile(r"[ \t\n\r]*")


class JsonReader:
    """Reads one value at a time; what is JSON but cannot be used is a complaint.

    complaint: of the value last read: what is wrong, and a piece of it to find
    """

    def __init__(self) -> None:
        self.complaint: tuple[str, str] | None = None
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_float=self._float,
            parse_int=self._int,
        )

    def read(self, text: str, start: int = 0) -> tuple[Any, int]:
        """Return the value at `start` and where it ends.

        Raises json.JSONDecodeError, with the place, and RecursionError.
        """
        self.complaint = None
        value, end = self._decoder.raw_decode(text, start)
        if self.complaint is None and _SURROGATE.search(text, start, end):
            self._check_surrogates(value)
        return value, end

    def place(self, text: str, start: int, end: int) -> int:
        """Return where in the text the complaint's cause stands; else the start."""
        found = self.complaint[1] if self.complaint else ""
        if found:
            for word in _WORD.finditer(text, start, end):
                if word[0] == found:
                    return word.start()
        return start

    def _complain(self, message: str, found: str = "") -> None:
        if self.complaint is None:
            self.complaint = (message, found)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            self._complain(f"the name {_twice(pairs)!r} stands twice in one object")
        return made

    def _constant(self, text: str) -> None:
        self._complain(f"{text} is not JSON; write null", text)

    def _float(self, text: str) -> float:
        number = float(text)
        if not isfinite(number):
            self._complain(f"the number {text[:40]} is too large", text)
            return 0.0
        return number

    def _int(self, text: str) -> int:
        if len(text) > _LONGEST_NUMBER:
            self._complain(f"a number has {len(text):,} digits", text)
            return 0
        return int(text)

    def _check_surrogates(self, value: Any) -> None:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            self._complain("half of a \\u surrogate pair is missing")


def _twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name[:200]
        seen.add(name)
    return ""


def skip_space(text: str, start: int) -> int:
    """Return where the next thing that is no white space stands."""
    found = _SPACE.match(text, start)
    return found.end() if found else start


def name_of(value: object) -> str:
    """Say what a JSON value is, for messages."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
