"""Builds Python values from the events of libyaml's parser; pure.

PyYAML's constructors take twenty times as long for an inventory of 10,000 nodes, and
libyaml's composer crashes the process on a deeply nested document.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NoReturn

import yaml

_DEEPEST = 100
_TAG = "tag:yaml.org,2002:"


class DocumentError(yaml.MarkedYAMLError):
    """Valid YAML that no configuration file may contain."""


def _float(text: str) -> float:
    word = text.lstrip("+-").lower()
    if word in {".inf", ".nan"}:
        return math.nan if word == ".nan" else float(text.replace(".", "", 1))
    return float(text)


_FLOAT = (
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
# YAML 1.2's core schema: `yes`, `on`, `0777`, `1:30` and dates are text.
_SCALARS: Mapping[str, tuple[re.Pattern[str], Callable[[str], object]]] = {
    f"{_TAG}null": (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    f"{_TAG}bool": (
        re.compile(r"true|True|TRUE|false|False|FALSE"),
        lambda text: text[0] in "tT",
    ),
    f"{_TAG}int": (re.compile(r"[-+]?(0|[1-9][0-9]*)"), int),
    f"{_TAG}float": (re.compile(_FLOAT), _float),
}
_NULL, _ = _SCALARS[f"{_TAG}null"]
# Nothing else begins a scalar that is more than text.
_NO_TEXT = frozenset("~nNtTfF-+.0123456789")
_TEXT = {None, "!", f"{_TAG}str"}
_COLLECTION = {None, "!", f"{_TAG}map", f"{_TAG}seq"}


def build(events: Iterator[Any], *, as_written: bool) -> Any:
    """Return the value of the only document; None for an empty text.

    as_written: scalars stay text, but for null

    Raises yaml.MarkedYAMLError.
    """
    builder = _Builder(as_written=as_written)
    for event in events:
        builder.take(event)
    return builder.value


class _Builder:
    """Keeps open collections in a list, so that depth needs no recursion."""

    def __init__(self, *, as_written: bool) -> None:
        self.value: Any = None
        self._as_written = as_written
        self._open: list[_Collection] = []
        self._anchors: dict[str, Any] = {}
        self._documents = 0

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
            self._anchor(event, value)
            self._put(value, event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                _refuse(f"undefined alias, got {event.anchor!r}", event)
            self._put(self._anchors[event.anchor], event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                _refuse("must be one document", event)

    def _begin(self, event: Any) -> None:
        if event.tag not in _COLLECTION:
            _refuse(f"unknown tag, got {event.tag!r}", event)
        if len(self._open) >= _DEEPEST:
            _refuse("nested too deeply", event)
        if isinstance(event, yaml.MappingStartEvent):
            made: _Collection = _Mapping()
        else:
            made = _Sequence()
        self._anchor(event, made.value)
        self._put(made.value, event)
        self._open.append(made)

    def _put(self, value: Any, event: Any) -> None:
        if self._open:
            self._open[-1].add(value, event)
        else:
            self.value = value

    def _anchor(self, event: Any, value: Any) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = value

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.implicit[0]:  # plain, and without a tag
            if text and text[0] not in _NO_TEXT:
                return text
            if self._as_written:
                return None if _NULL.fullmatch(text) else text
            for pattern, make in _SCALARS.values():
                if pattern.fullmatch(text):
                    return make(text)
            return text
        if event.tag in _TEXT or (self._as_written and event.tag in _SCALARS):
            return text
        if event.tag not in _SCALARS:
            _refuse(f"unknown tag, got {event.tag!r}", event)
        pattern, make = _SCALARS[event.tag]
        if not pattern.fullmatch(text):
            _refuse(f"must be {event.tag.removeprefix(_TAG)}, got {text!r}", event)
        return make(text)


class _Sequence:
    def __init__(self) -> None:
        self.value: list[Any] = []

    def add(self, value: Any, _: Any) -> None:
        self.value.append(value)


_NO_KEY = object()


class _Mapping:
    def __init__(self) -> None:
        self.value: dict[Hashable, Any] = {}
        self._key: Any = _NO_KEY

    def add(self, value: Any, event: Any) -> None:
        if self._key is not _NO_KEY:
            self.value[self._key] = value
            self._key = _NO_KEY
            return
        if not isinstance(value, Hashable):
            _refuse("a key must be text or a number", event)
        if value in self.value:  # the last one would win in silence
            _refuse(f"duplicate key, got {value!r}", event)
        self._key = value


_Collection = _Sequence | _Mapping


def _refuse(what: str, event: Any) -> NoReturn:
    raise DocumentError(None, None, what, event.start_mark)
