"""Read JSON bodies and their fields with the error texts of Ollama's decoder; pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """What a client of the node hears.

    kind: OpenAI's `type` on `/v1`; native answers carry the text alone
    """

    def __init__(self, status: int, text: str, kind: str = "api_error") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.kind = kind


def invalid(text: str) -> ApiError:
    return ApiError(400, text, "invalid_request_error")


_GO_TYPES: Mapping[str, tuple[type, str]] = {
    "string": (str, "string"),
    "bool": (bool, "bool"),
    "options": (dict, "map[string]interface {}"),
    "ids": (list, "[]int"),
    "messages": (list, "[]api.Message"),
    "openai_messages": (list, "[]openai.Message"),
}
_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_DURATION = re.compile(r"(-?)((?:\d+(?:\.\d*)?(?:ns|us|ms|s|m|h))+)")
_GO_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|ms|s|m|h)")


def document(body: bytes, name: str, *, openai: bool) -> dict[str, Any]:
    """Read a JSON object; `name` is Ollama's word for it in error texts."""
    if not body:
        raise invalid("EOF" if openai else "missing request body")
    try:
        value = json.loads(body.decode(errors="replace"))
    except json.JSONDecodeError as error:
        raise invalid(_go_syntax(error)) from error
    except RecursionError as error:
        raise invalid("exceeded max depth") from error
    if not isinstance(value, dict):
        package = "openai" if openai else "api"
        kind = f"Go value of type {package}.{name}"
        raise invalid(f"json: cannot unmarshal {_json_type(value)} into {kind}")
    return value if b"\\u" not in body else _without_halves(value)


def _without_halves(value: Any) -> Any:
    """Put U+FFFD for half of a surrogate pair, as Go's decoder does."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_halves(each) for each in value]
    if isinstance(value, dict):
        return {_without_halves(k): _without_halves(v) for k, v in value.items()}
    return value


def _go_syntax(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc.rstrip()):
        return "unexpected EOF"
    where = {
        "Expecting property name enclosed in double quotes": (
            "looking for beginning of object key string"
        ),
        "Expecting ',' delimiter": "after object key:value pair",
        "Expecting ':' delimiter": "after object key",
        "Extra data": "after top-level value",
    }.get(error.msg, "looking for beginning of value")
    return f"invalid character {error.doc[error.pos]!r} {where}"


def check_types(value: Mapping[str, Any], name: str, kinds: Mapping[str, str]) -> None:
    """Refuse a field of the wrong type in the words of Go's decoder."""
    for field, kind in kinds.items():
        given = value.get(field)
        expected, go_type = _GO_TYPES[kind]
        if given is not None and not isinstance(given, expected):
            raise invalid(
                f"json: cannot unmarshal {_json_type(given)} into Go struct field"
                f" {name}.{field} of type {go_type}"
            )


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array"}
    return names.get(type(value), "object")


def keep_alive(value: object) -> float | None:
    """Read `keep_alive`: seconds or Go's duration; negative is for ever."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise invalid(f"Unsupported type: '{_json_type(value)}'")
    seconds = _go_duration(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def _go_duration(text: str) -> float:
    if text in ("0", "-0"):
        return 0.0
    match = _GO_DURATION.fullmatch(text)
    if match is None:
        raise invalid(f'time: invalid duration "{text}"')
    parts = _GO_PART.findall(match[2])
    seconds = sum(float(number) * _GO_UNITS[unit] for number, unit in parts)
    return -seconds if match[1] else seconds


def whole_option(options: Mapping[str, Any], name: str) -> int | None:
    """Read an option that is a whole number, or None."""
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ApiError(500, f'option "{name}" must be of type integer')
    return int(value)


def stop_option(options: Mapping[str, Any]) -> tuple[str, ...]:
    value = options.get("stop")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ApiError(500, 'option "stop" must be of type array')
    if not all(isinstance(each, str) for each in value):
        raise ApiError(500, 'option "stop" must be of an array of strings')
    return tuple(value)
