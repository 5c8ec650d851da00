"""Reads an answer: a field of the JSON that a model wrote, or its complete text."""

from __future__ import annotations

import re
from math import isfinite

import orjson

from router.errors import ReducerError

_PART = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)

Path = tuple[str | int, ...]
MISSING = object()


def path_of(text: str) -> Path:
    """Parse `score` or `scores[0].value`; "" for the complete text.

    Raises ReducerError.
    """
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if not found:
            raise ReducerError(f"reducer.field: {text!r} is no path like 'a.b[0]'")
        name, number = found.groups()
        parts.append(name if name is not None else int(number))
        at = found.end()
    return tuple(parts)


def value_at(text: str, path: Path) -> object:
    """Return the field's value, MISSING if there is none."""
    if not path:
        return text.strip()
    value = _parsed(text)
    for part in path:
        try:
            value = value[part]  # type: ignore[index]
        except (LookupError, TypeError):
            return MISSING
    return value


def _parsed(text: str) -> object:
    """Parse an answer: models wrap JSON into fences and friendly words."""
    fenced = _FENCED.search(text)
    inner = text[text.find("{") : text.rfind("}") + 1]
    for candidate in (text, fenced[1] if fenced else "", inner):
        try:
            return orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
    return MISSING


def number_of(value: object) -> float | None:
    """Return a finite number, also one written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def word_of(value: object) -> str | None:
    """Return a scalar in JSON's notation; None for lists and objects."""
    if isinstance(value, str):
        return value.strip()
    if value is None or isinstance(value, bool | int | float):
        return orjson.dumps(value).decode()
    return None
