"""YAML read strictly, and its faults told as `file: path: what, got value`.

Strictly: a key given twice is an error, and `yes`, `on`, `0777` or `1:30` are
text (YAML 1.2's core schema), while `24e9` is a number.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from router.config.files import read_text
from router.errors import ConfigError
from router.logs.redaction import HIDDEN, scrub, secret_name

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

_SHOWN_CHARACTERS = 80
_PLAIN = re.compile(r"[\w-]+")  # anything else in a name is written as Python does


class _Absent:
    """No value to show."""


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, what it must be, and what it is."""

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
    """Write a location: `signals[2].weight`, `[0].labels.node`."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _PLAIN.fullmatch(part) else repr(part)
            text += f".{name}" if text else name
    return text


def rejected(source: str, faults: Iterable[Fault]) -> ConfigError:
    return ConfigError("\n".join(fault.line(source) for fault in faults))


def read(path: Path) -> str:
    """Read a small regular file whole; raises ConfigError that names it."""
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        what = f"must be UTF-8 text, is not at byte {error.start}"
        raise ConfigError(f"{path.name}: {what}, got {str(path)!r}") from error
    except OSError as error:
        # The path in full: a value may be cut short, a path is to be looked up.
        what = f"cannot be read: {error.strerror}"
        raise ConfigError(f"{path.name}: {what}, got {str(path)!r}") from error


def parse(text: str, source: str) -> Any:
    """Parse one YAML document; raises ConfigError with line and column."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  derived from SafeLoader
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{source}: {_marked(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}: line {line}: not YAML: {error.reason}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: not YAML: nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"{source}: not YAML: {error}") from error


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    what = f"not YAML: {error.problem}"
    if isinstance(error, _DuplicateKeyError):
        what = str(error.problem)
    elif error.context == "expected a single document in the stream":
        what = "must be one document"
    if mark is None:
        return what
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}"


class _DuplicateKeyError(yaml.constructor.ConstructorError):
    """The last one would win in silence."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's core schema, and no key twice."""

    # Each class has its own table; SafeLoader's knows `yes`, `1:30` and dates.
    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's own way

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,
    ) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                what = f"duplicate key, got {key!r}"
                raise _DuplicateKeyError(None, None, what, key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


_FLOAT = (
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_CORE: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)
for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def check(
    model: type[Model], document: object
) -> tuple[Model | None, tuple[Fault, ...]]:
    """Validate a document: the value, or every fault in the model's own order."""
    try:
        return model.model_validate(document), ()
    except ValidationError as error:
        details = error.errors(include_url=False)
        return None, tuple(_fault(model, each) for each in details)


_WHAT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda limit: f"must be > {limit['gt']:g}",
    "greater_than_equal": lambda limit: f"must be >= {limit['ge']:g}",
    "less_than": lambda limit: f"must be < {limit['lt']:g}",
    "less_than_equal": lambda limit: f"must be <= {limit['le']:g}",
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


def _fault(model: type[BaseModel], detail: Mapping[str, Any]) -> Fault:
    kind, where = detail["type"], tuple(detail["loc"])
    if kind == "missing":
        return Fault(where, "is required")
    if kind in ("extra_forbidden", "invalid_key"):
        return Fault(
            where, unknown(str(where[-1]), _names(model, where)), detail["input"]
        )
    what = _WHAT.get(kind)
    text = what(detail.get("ctx", {})) if what else detail["msg"]
    return Fault(where, text, detail["input"])


def unknown(name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, with the nearest one that is known."""
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
