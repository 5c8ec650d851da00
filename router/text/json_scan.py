"""Finds an object's members in its JSON text, without building what else is in it.

A tree of `[[],[],…]` takes thirty times the text and holds the event loop for
seconds. Here nothing is kept but the members that are wanted, where they are short:
all others are passed over by their brackets and strings alone, and whoever the text
goes to says whether it is JSON in there. Names and repeated members count as Go's
reader takes them, for that is what Ollama reads with. No call of C lasts longer than
a slice, so that in a native thread everybody else gets a turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import orjson


class JsonError(ValueError):
    """The text is not JSON where it was looked at."""


class NotAnObjectError(JsonError):
    """It is another value, which the text names."""


class TooManyPartsError(JsonError):
    """There are more lists, objects and members, or deeper ones, than are allowed."""


class _Large:
    """Stands for a value that is there and not empty, and was not read."""


LARGE: Final = _Large()

# A tree of so much text is a few MiB and a few milliseconds, whatever is in it.
_SMALL_BYTES = 64 * 1024
# Beyond that it is where there is not more text than this, and few values in it.
_CHEAP_BYTES = 512 * 1024
_CHEAP_VALUES = 20_000
_SHORT_BYTES = 1024  # of a value that is read
_MOST_PARTS = 250_000
_MOST_DEPTH = 10_000  # as Go's reader
_SLICE = 256 * 1024  # a millisecond's work

_SPACE = re.compile(rb"[ \t\n\r]*+")
_SCALAR = re.compile(rb'[^ \t\n\r,\]\[}{":]*+')
_NAME = re.compile(rb'"((?:[^"\\]|\\.){0,256}+)"', re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_WHOLE_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Up to the next bracket, over whole strings.
_FLAT = re.compile(rb'[^]["}{]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^]["}{]*+)*+', re.DOTALL)
_QUOTE, _OPEN, _CLOSE = 0x22, frozenset(b"[{"), frozenset(b"]}")


def cheap(text: bytes) -> bool:
    """Whether a parser may build all of it in the event loop."""
    if len(text) <= _SMALL_BYTES:
        return True
    if len(text) > _CHEAP_BYTES:
        return False
    return few_values(text)


def few_values(text: bytes) -> bool:
    """Say whether a JSON text has so few values that all may be built."""
    if values_at_most(text) <= _CHEAP_VALUES:
        return True
    unquoted = _WHOLE_STRING.sub(b"", text, count=2 * _CHEAP_VALUES)
    return values_at_most(unquoted) <= _CHEAP_VALUES


def values_at_most(text: bytes) -> int:
    """Return a bound of how many values a JSON text has, without reading it."""
    return len(text) - len(text.translate(None, b"[{,")) + 1


def load(text: bytes, wanted: Mapping[str, bool]) -> Mapping[str, object] | None:
    """Read an object as `members` does, by a parser that is quicker.

    None where only `members` can: what is dear to build, what a strict parser does
    not take but Go does, names in another case. Other members are there as well.
    Raises JsonError where it is another value than an object.
    """
    if not cheap(text):
        return None
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        raise NotAnObjectError(type(fields).__name__)
    names = "".join(fields)
    if not names.isascii() or names != names.lower():
        return None
    if None in fields.values() and any(
        wanted.get(name) and value is None for name, value in fields.items()
    ):
        return None
    return fields


def members(
    text: bytes, wanted: Mapping[str, bool], most_parts: int = _MOST_PARTS
) -> dict[str, object]:
    """Read the wanted members of an object; a value that is long is `LARGE`.

    wanted: by name, whether a null leaves what an earlier member of the name said,
            as it does where Go reads into a value that is no pointer

    Raises JsonError, TooManyPartsError.
    """
    return _Scan(text, most_parts).members(wanted)


class _Scan:
    """One text, and how many more parts it may have."""

    def __init__(self, text: bytes, most_parts: int) -> None:
        self._text = text
        self._most = self._left = most_parts

    def members(self, wanted: Mapping[str, bool]) -> dict[str, object]:
        found: dict[str, object] = {}
        at = self._space(0)
        first = self._text[at : at + 1]
        if first != b"{":
            raise NotAnObjectError("list") if first == b"[" else self._fault(at)
        at = self._space(at + 1)
        if self._text[at : at + 1] == b"}":
            return found
        while True:
            name, start = self._name(at)
            at = self._value(start)
            if name in wanted:
                value = self._read(start, at)
                if value is not None or not wanted[name]:
                    found[name] = value
            at = self._space(at)
            following = self._text[at : at + 1]
            if following == b"}":
                return found
            if following != b",":
                raise self._fault(at)
            at = self._space(at + 1)

    def _name(self, at: int) -> tuple[str, int]:
        """Read a member's name as Go folds it, and find its value."""
        self._count()
        text = self._text
        if text[at : at + 1] != b'"':
            raise self._fault(at)
        short = _NAME.match(text, at)
        end = short.end() if short else self._string(at + 1)
        at = self._space(end)
        if text[at : at + 1] != b":":
            raise self._fault(at)
        return _folded(short[1]) if short else "", self._space(at + 1)

    def _value(self, at: int) -> int:
        """Return where the value ends that begins here."""
        first = self._text[at : at + 1]
        if first == b'"':
            return self._string(at + 1)
        if first in {b"[", b"{"}:
            return self._nested(at)
        return self._sliced(_SCALAR, at)

    def _string(self, at: int) -> int:
        """Return the end of a string whose first quote is behind."""
        text, quote = self._text, -1
        while True:
            if quote < at:
                quote = text.find(b'"', at)
                if quote < 0:
                    raise self._fault(len(text))
            escape = text.find(b"\\", at, quote)
            if escape < 0:
                return quote + 1
            at = _IN_STRING.match(text, escape, escape + _SLICE).end()  # type: ignore[union-attr]
            if text[at : at + 1] == b'"':
                return at + 1

    def _nested(self, at: int) -> int:
        """Return the end of a list or an object, by its brackets alone."""
        text, flat, length, depth = self._text, _FLAT.match, len(self._text), 0
        while True:
            at = flat(text, at, at + _SLICE).end()  # type: ignore[union-attr]
            if at >= length:
                raise self._fault(at)
            byte = text[at]
            if byte in _OPEN:
                self._count()
                depth += 1
                if depth > _MOST_DEPTH:
                    raise TooManyPartsError(f"it is over {_MOST_DEPTH} levels deep")
            elif byte in _CLOSE:
                depth -= 1
                if not depth:
                    return at + 1
            elif byte == _QUOTE:  # a string that is longer than a slice
                at = self._string(at + 1)
                continue
            else:  # the slice's end
                continue
            at += 1

    def _space(self, at: int) -> int:
        return self._sliced(_SPACE, at)

    def _sliced(self, pattern: re.Pattern[bytes], at: int) -> int:
        end = at
        while True:
            found = pattern.match(self._text, end, end + _SLICE)
            assert found is not None  # noqa: S101 - it matches nothing as well
            if found.end() < end + _SLICE:
                return found.end()
            end = found.end()

    def _read(self, start: int, end: int) -> object:
        if end - start > _SHORT_BYTES:
            return LARGE
        raw = self._text[start:end]
        try:
            return json.loads(raw.decode(errors="replace"))
        except (ValueError, RecursionError):
            raise self._fault(start) from None

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooManyPartsError(
                f"it has more than {self._most} lists, objects and members"
            )

    def _fault(self, at: int) -> JsonError:
        if at >= len(self._text):
            return JsonError("unexpected end of data")
        return JsonError(f"unexpected character (byte {at})")


def _folded(raw: bytes) -> str:
    """Return a name as Go compares it: two letters beyond ASCII fold into it."""
    name = raw.decode(errors="replace")
    if "\\" in name:
        try:
            name = json.loads(f'"{name}"', strict=False)
        except ValueError:
            return ""
    if not name.isascii():
        name = name.replace("\u212a", "k").replace("\u017f", "s")
    return name.lower()
