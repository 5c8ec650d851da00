"""Reads what is asked of jobs: fields with their types, pages, ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import orjson

from router.errors import BadRequestError
from router.jobs.model import ResultPage, TimeWindow
from router.jobs.window import WindowError
from router.jobs.window import parse as parse_window
from router.text.json_scan import few_values

E = TypeVar("E", bound=StrEnum)

_SPAN = re.compile(r"(\d{1,6})\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_SPAN_SECONDS = 90 * 86_400
_MOST_METADATA = 16
_MOST_TEXT_CHARACTERS = 262_144
_MOST_OBJECT_BYTES = 65_536


class FieldError(BadRequestError):
    """A field is wrong; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


@dataclass(slots=True)
class RequestFields:
    """The fields of one request; each that is read is known, the rest is refused.

    form: values are texts, in which objects and numbers are written as JSON
    """

    fields: dict[str, Any]
    form: bool = False

    def text(self, name: str, default: str = "") -> str:
        value = self._pop(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise _wrong(name, "must be a text", value)
        if len(value) > _MOST_TEXT_CHARACTERS:
            raise FieldError(name, f"at most {_MOST_TEXT_CHARACTERS} characters")
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value.strip():
            raise FieldError(name, "is required")
        return value

    def choice(self, name: str, kind: type[E], default: E) -> E:
        value = self.text(name)
        if not value:
            return default
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(kind)
            raise _wrong(name, f"must be one of {known}", value) from None

    def number(self, name: str, least: int, most: int) -> int | None:
        value = self._parsed(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(name, "must be a whole number", value)
        if not least <= value <= most:
            raise _wrong(name, f"must be {least} to {most}", value)
        return value

    def flag(self, name: str) -> bool | None:
        value = self._parsed(name)
        if value is not None and not isinstance(value, bool):
            raise _wrong(name, "must be true or false", value)
        return value

    def object(self, name: str) -> dict[str, Any]:
        value = self._parsed(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _wrong(name, "must be an object", value)
        return self._small(name, value)

    def _small(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        """Bound what is kept with a job, and shown with it each time."""
        if len(orjson.dumps(value)) > _MOST_OBJECT_BYTES:
            raise FieldError(name, f"at most {_MOST_OBJECT_BYTES} bytes of JSON")
        return value

    def texts(self, name: str, most: int) -> list[str]:
        value = self._parsed(name)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise _wrong(name, "must be a list of texts", value)
        if not 0 < len(value) <= most:
            raise FieldError(name, f"must have 1 to {most:,} entries")
        return value

    def reducer(self) -> dict[str, Any]:
        """Read `reducer`, an object or a name, with `threshold` beside it."""
        value = self._pop("reducer")
        if isinstance(value, str) and value.lstrip().startswith("{") and self.form:
            value = self._json("reducer", value)
        if value is None:
            value = {"kind": "map"}
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            raise _wrong("reducer", "must be an object or a name", value)
        threshold = self.number("threshold", 2, 1024)
        if threshold is not None:
            value = {**value, "threshold": threshold}
        return self._small("reducer", value)

    def metadata(self) -> dict[str, str]:
        value = self.object("metadata")
        if len(value) > _MOST_METADATA:
            raise FieldError("metadata", f"at most {_MOST_METADATA} pairs")
        for name, text in value.items():
            if not isinstance(text, str) or len(text) > 512 or len(name) > 64:
                what = "must be texts up to 512 characters under names up to 64"
                raise FieldError("metadata", what)
        return value

    def span(self, name: str, default: str) -> float:
        """Read a time such as `24h` in seconds."""
        text = self.text(name, default)
        found = _SPAN.fullmatch(text.strip())
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST_SPAN_SECONDS:
            raise _wrong(name, "must be a time such as '24h', up to 90 days", text)
        return float(seconds)

    def window(self) -> TimeWindow | None:
        text, zone = self.text("window"), self.text("zone", "UTC")
        if not text:
            return None
        try:
            return parse_window(text, zone)
        except WindowError as error:
            raise FieldError(error.param, str(error)) from error

    def nothing_else(self) -> None:
        if self.fields:
            name = next(iter(self.fields))
            raise FieldError(name, "unknown field")

    def _pop(self, name: str) -> Any:
        value = self.fields.pop(name, None)
        return None if self.form and value == "" else value

    def _parsed(self, name: str) -> Any:
        value = self._pop(name)
        return self._json(name, value) if self.form and value is not None else value

    def _json(self, name: str, text: str) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise FieldError(name, f"no JSON: {error}") from error


def parsed(body: bytes) -> Any:
    """Parse a JSON body, whatever it holds. Raises BadRequestError."""
    if not few_values(body):
        raise BadRequestError("too many values in the JSON body")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"invalid JSON: {error}") from error


def read_object(body: bytes) -> RequestFields:
    """Read a JSON body. Raises BadRequestError."""
    fields = parsed(body)
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise BadRequestError(f"the body must be a JSON object, got {kind}")
    return RequestFields(fields)


def read_page(query: Mapping[str, str], default: int, most: int) -> ResultPage:
    """Read `limit`, `after` and `order`. Raises BadRequestError."""
    order = query.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise _wrong("order", "must be asc or desc", order)
    return ResultPage(
        limit=query_number(query, "limit", default, 1, most),
        after=query.get("after", ""),
        oldest_first=order == "asc",
    )


def query_number(
    query: Mapping[str, str], name: str, default: int, least: int, most: int
) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise _wrong(name, f"must be a number from {least} to {most}", text)
    return value


def query_flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "false").lower()
    if text not in {"true", "false", "1", "0"}:
        raise _wrong(name, "must be true or false", text)
    return text in {"true", "1"}


def _wrong(name: str, what: str, got: object) -> FieldError:
    shown = repr(got)
    return FieldError(name, f"{what}, got {shown[:60]}")
