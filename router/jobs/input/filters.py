"""The filters of prompt templates: small, pure, and bounded in what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import orjson

from router.errors import TemplateError

MOST_CHARACTERS = 4 * 1024 * 1024


def _text(value: Any) -> str:
    """Give a value as text, as output gives it."""
    if isinstance(value, str):
        return value
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, with the name
    return "" if value is None else orjson.dumps(value).decode()


def _default(value: Any, instead: Any = "") -> Any:
    """Take another value where the column is missing or null."""
    missing = value is None or isinstance(value, jinja2.Undefined)
    return instead if missing else value


def _replace(value: Any, old: str, new: str) -> str:
    text = _text(value)
    if not old:
        raise TemplateError("filter 'replace': the text to replace is empty")
    _bound(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


def _join(value: Any, between: str = ", ") -> str:
    if not isinstance(value, list):
        raise TypeError(f"'join' wants a list, got {_text(value)[:40]!r}")
    texts = [_text(each) for each in value]
    _bound(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _truncate(value: Any, characters: int = 1000) -> str:
    text = _text(value)
    return text if len(text) <= characters else text[: max(0, characters - 1)] + "…"


def _length(value: Any) -> int:
    return len(value if isinstance(value, list | dict) else _text(value))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else _text(value)[:1]


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) else _text(value)[-1:]


def _round(value: Any, digits: int = 0) -> float:
    return round(float(value), digits)


def _bound(length: int) -> None:
    if length > MOST_CHARACTERS:
        raise TemplateError(f"a filter would give {length:,} characters")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "capitalize": lambda value: _text(value).capitalize(),
    "default": _default,
    "first": _first,
    "join": _join,
    "last": _last,
    "length": _length,
    "lower": lambda value: _text(value).lower(),
    "replace": _replace,
    "round": _round,
    "title": lambda value: _text(value).title(),
    "tojson": lambda value: orjson.dumps(value).decode(),
    "trim": lambda value: _text(value).strip(),
    "truncate": _truncate,
    "upper": lambda value: _text(value).upper(),
}
