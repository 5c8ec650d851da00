"""Reads YAML strictly; faults are worded `file: path: what, got value`.

A repeated key is an error. `yes`, `on`, `0777` and `1:30` are text, as in YAML 1.2's
core schema; `24e9` is a number.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from router.config.events import DocumentError, build
from router.config.files import read_text
from router.errors import ConfigError
from router.logs.redaction import HIDDEN, scrub, secret_name

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

_SHOWN_CHARACTERS = 80
_PLAIN = re.compile(r"[\w-]+")  # anything else in a name is written as Python does


class _Absent:
    """Marks a fault without a value."""


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class YamlFault:
    """A fault: where it is, what is required, and the value."""

    where: Location
    what: str
    value: object = ABSENT

    def line(self, source: str) -> str:
        place = f"{source}: {render(self.where)}" if self.where else source
        if self.value is ABSENT:
            return f"{place}: {self.what}"
        return f"{place}: {self.what}, got {self._shown()}"

    def _shown(self) -> str:
        if self.where and secret_name(str(self.where[-1])):
            return HIDDEN
        if self.value is None:
            return "nothing"
        if isinstance(self.value, dict | list):  # may hold what must not be shown
            kind = "mapping" if isinstance(self.value, dict) else "list"
            return f"a {kind} of {len(self.value)}"
        text = scrub(repr(self.value))
        short = text[: _SHOWN_CHARACTERS - 1]
        return text if len(text) <= _SHOWN_CHARACTERS else f"{short}…"


def render(where: Location) -> str:
    """Return a location as text: `signals[2].weight`, `[0].labels.node`."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _PLAIN.fullmatch(part) else repr(part)
            text += f".{name}" if text else name
    return text


def rejected(source: str, faults: Iterable[YamlFault]) -> ConfigError:
    return ConfigError("\n".join(fault.line(source) for fault in faults))


def read(path: Path) -> str:
    """Read a small regular file; raises ConfigError that names it."""
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        what = f"must be UTF-8 text, is not at byte {error.start}"
        raise ConfigError(f"{path.name}: {what}, got {str(path)!r}") from error
    except OSError as error:
        # The path in full: a value may be cut short, a path is to be looked up.
        what = f"cannot be read: {error.strerror}"
        raise ConfigError(f"{path.name}: {what}, got {str(path)!r}") from error


def parse(text: str, source: str, *, as_written: bool = False) -> Any:
    """Parse one YAML document; raises ConfigError with line and column.

    as_written: each scalar is its text, or None, quoted or not: as Prometheus reads
                labels
    """
    try:
        return build(yaml.parse(text, Loader=yaml.CSafeLoader), as_written=as_written)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{source}: {_marked(error)}") from error
    except yaml.reader.ReaderError as error:
        before = text.encode(errors="surrogatepass")[: error.position]
        line = before.count(b"\n") + 1
        raise ConfigError(f"{source}: line {line}: not YAML: {error.reason}") from error
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"{source}: not YAML: {error}") from error


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    what = str(error.problem)
    if not isinstance(error, DocumentError):
        what = f"not YAML: {what}"
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else what


def check(
    model: type[Model], document: object
) -> tuple[Model | None, tuple[YamlFault, ...]]:
    """Return a document's value, or every fault in the order of the model's fields."""
    try:
        return model.model_validate(document), ()
    except ValidationError as error:
        details = error.errors(include_url=False)
        return None, tuple(_fault(model, each) for each in details)


def _plain(limit: float) -> str:
    """Write a limit without an exponent where it is a whole number."""
    return str(int(limit)) if limit == int(limit) else f"{limit:g}"


_WHAT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda limit: f"must be > {_plain(limit['gt'])}",
    "greater_than_equal": lambda limit: f"must be >= {_plain(limit['ge'])}",
    "less_than": lambda limit: f"must be < {_plain(limit['lt'])}",
    "less_than_equal": lambda limit: f"must be <= {_plain(limit['le'])}",
    "finite_number": lambda _: "must be a finite number",
    "int_type": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "string_type": lambda _: "must be text",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
    "string_pattern_mismatch": lambda c: f"must match {c['pattern']}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "model_type": lambda _: "must be a mapping",
    "dict_type": lambda _: "must be a mapping",
    "list_type": lambda _: "must be a list",
    "too_short": lambda c: f"must have at least {c['min_length']} entry",
    "value_error": lambda c: str(c["error"]),
}


def _fault(model: type[BaseModel], detail: Mapping[str, Any]) -> YamlFault:
    kind, where = detail["type"], tuple(detail["loc"])
    if kind == "missing":
        return YamlFault(where, "is required")
    if kind in ("extra_forbidden", "invalid_key"):
        return YamlFault(
            where, unknown(str(where[-1]), _names(model, where)), detail["input"]
        )
    what = _WHAT.get(kind)
    text = what(detail.get("ctx", {})) if what else detail["msg"]
    return YamlFault(where, text, detail["input"])


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the fault of an unknown name, with the most similar known one."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"is unknown, perhaps {near[0]!r} is meant" if near else "is unknown"


def _names(model: type[BaseModel], where: Location) -> Iterable[str]:
    """Give the fields that are known at the place of an unknown one."""
    for part in where[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        inner = [annotation, *get_args(annotation)]
        model = next(
            each
            for each in inner
            if isinstance(each, type) and issubclass(each, BaseModel)
        )
    return model.model_fields
