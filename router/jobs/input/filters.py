"""The filters of prompt templates: pure, with bounded results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from math import isfinite, nan
from typing import Any

import jinja2
import orjson

from router.errors import TemplateError
from router.jobs.input.readers.rows import Unusable
from router.jobs.input.readers.text import damage

MOST_CHARACTERS = 4 * 1024 * 1024


def written(value: Any) -> str:
    """Return a value as text for a prompt: text as it is, null as nothing, else JSON.

    Raises TemplateError for what has no text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, with the name
    return as_json(value)


def as_json(value: Any) -> str:
    """Return a value as JSON. Raises TemplateError if that is not possible."""
    refuse_unusable(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number beyond 64 bits, or half of a surrogate pair
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class UnusableError(TemplateError):
    """A value cannot be written; it may be inside that of a column."""

    def __init__(self, reason: str, value: object) -> None:
        super().__init__(reason)
        self.value = value


def refuse_unusable(value: Any) -> None:
    """Raise UnusableError for a value that cannot be written, also inside another."""
    if isinstance(value, Unusable):
        raise UnusableError(value.reason, value)
    if isinstance(value, dict):
        for each in value.values():
            refuse_unusable(each)
    elif isinstance(value, list):
        for each in value:
            refuse_unusable(each)


def replaced(value: Any, instead: Callable[[Unusable], object]) -> Any:
    """Return a value with something instead of each that cannot be written."""
    if isinstance(value, dict):
        return {name: replaced(each, instead) for name, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, instead) for each in value]
    return instead(value) if isinstance(value, Unusable) else value


def refuse_damaged(text: str) -> None:
    """Raise UnusableError for a text that is not Unicode."""
    if reason := damage(text):
        raise UnusableError(reason, text)


def holds(value: object, wanted: object) -> bool:
    """Say whether a value is, or contains, another one."""
    if isinstance(value, dict):
        return any(holds(each, wanted) for each in value.values())
    if isinstance(value, list):
        return any(holds(each, wanted) for each in value)
    if isinstance(value, str) and isinstance(wanted, str):
        return value != "" and damage(value) == damage(wanted)
    return value is wanted


def _default(value: Any, instead: Any = "") -> Any:
    """Return another value if the column is missing or null."""
    missing = value is None or isinstance(value, jinja2.Undefined)
    return instead if missing else value


def _replace(value: Any, old: Any, new: Any) -> str:
    text, old, new = written(value), written(old), written(new)
    if not old:
        raise TemplateError("filter 'replace': the text to replace is empty")
    check_length(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


def _join(value: Any, between: Any = ", ") -> str:
    if not isinstance(value, list):
        raise TemplateError(f"filter 'join' wants a list, got {_shown(value)}")
    texts, glue = [written(each) for each in value], written(between)
    check_length(sum(map(len, texts)) + len(glue) * len(texts))
    return glue.join(texts)


def _truncate(value: Any, characters: Any = 1000) -> str:
    text, most = written(value), _whole("truncate", characters)
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def _length(value: Any) -> int:
    return len(value if isinstance(value, list | dict) else written(value))


def _first(value: Any) -> Any:
    found = value if isinstance(value, list) else written(value)
    return found[0] if found else ""


def _last(value: Any) -> Any:
    found = value if isinstance(value, list) else written(value)
    return found[-1] if found else ""


def _round(value: Any, digits: Any = 0) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = nan
    if not isfinite(number):
        raise TemplateError(f"filter 'round' wants a number, got {_shown(value)}")
    return round(number, _whole("round", digits))


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or abs(value) > MOST_CHARACTERS:
        raise TemplateError(f"filter {name!r} wants a number, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return repr(written(value)[:40])


def check_length(length: int) -> None:
    """Raise TemplateError for more characters than a prompt may have."""
    if length > MOST_CHARACTERS:
        raise TemplateError(
            f"a filter would give {length:,} characters, a prompt has at most"
            f" {MOST_CHARACTERS:,}"
        )


def _bounded(call: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a filter's result: `tojson` alone can double a text each time."""

    @wraps(call)
    def bounded(*arguments: Any) -> Any:
        made = call(*arguments)
        if isinstance(made, str):
            check_length(len(made))
        return made

    return bounded


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "capitalize": lambda value: written(value).capitalize(),
    "default": _default,
    "first": _first,
    "join": _join,
    "last": _last,
    "length": _length,
    "lower": lambda value: written(value).lower(),
    "replace": _replace,
    "round": _round,
    "title": lambda value: written(value).title(),
    "tojson": as_json,
    "trim": lambda value: written(value).strip(),
    "truncate": _truncate,
    "upper": lambda value: written(value).upper(),
}
FILTERS = {name: _bounded(call) for name, call in _FILTERS.items()}


def arguments_of(name: str) -> tuple[int, int]:
    """Return how few and how many arguments a filter takes, beside its value."""
    takes = list(signature(_FILTERS[name]).parameters.values())[1:]
    needed = sum(each.default is each.empty for each in takes)
    return needed, len(takes)
