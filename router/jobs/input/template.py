"""Prompt templates: `Summarise: {{ text }}` over the columns of a dataset.

The language is a small part of Jinja2's: columns, their parts by attribute or index,
and some filters. Without statements, calls, tests or operators a template can neither
loop nor reach Python's objects, and its output is bounded. A large template takes long
to read, so this runs in the sandbox. The only file that imports jinja2 for prompts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from router.errors import TemplateError
from router.jobs.input.filters import (
    FILTERS,
    MOST_CHARACTERS,
    UnusableError,
    arguments_of,
    holds,
    refuse_damaged,
    written,
)
from router.jobs.input.readers.values import name_of

_LONGEST_SOURCE = 256 * 1024
_MOST_NODES = 2_000
_DEEPEST = 24
_SHOWN_COLUMNS, _SHOWN = 50, 60
# `row["a name with spaces"]` reaches every column, also one called "row".
_WHOLE = "row"
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Filter,
    nodes.Neg,  # of a number, such as a negative index
)
_MAY_HOLD = "a prompt may hold columns, their parts by .name or [number], and filters"
_NAMED: tuple[tuple[type[nodes.Node], str], ...] = (
    (nodes.Call, "a call"),
    (nodes.CondExpr, "a condition"),
    (nodes.Getitem, "an index that is not a number or text"),
    (nodes.Stmt, "a statement"),
    (nodes.BinExpr, "an operator"),
    (nodes.UnaryExpr, "an operator"),
    (nodes.Compare, "a comparison"),
    (nodes.Test, "a test"),
    (nodes.Literal, "a list or an object"),
)
_OUTPUT = re.compile(r"\{\{.*?(\}\}|\Z)", re.DOTALL)
_WORDS = re.compile(r"\{\{-?\s*([^\W\d]\w*(?:[ -]+\w+)+)\s*(?=[|}])")


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox without access to attributes of Python objects."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict | list | str) and not isinstance(argument, slice):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)


class _Missing(jinja2.StrictUndefined):
    """A missing value, with a message for people."""

    @property
    def _undefined_message(self) -> str:
        name = self._undefined_name
        if self._undefined_obj is jinja2.utils.missing:
            return f"the row has no column {name!r}"
        kind = name_of(self._undefined_obj)
        if isinstance(name, int):
            return f"{kind} has no element {name}"
        return f"{kind} has nothing named {name!r}"


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template.

    columns: columns that a row must have; those with the filter `default` need not be
    used:    all columns that it reads; None if it uses the complete row
    """

    source: str
    columns: frozenset[str]
    used: frozenset[str] | None
    _compiled: jinja2.Template

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template. Raises TemplateError, with line and column."""
        if len(text) > _LONGEST_SOURCE:
            raise TemplateError(
                f"the template is longer than {_LONGEST_SOURCE:,} characters"
            )
        environment = _environment()
        try:
            tree = environment.parse(text)
            _check(tree, text)
            compiled = environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise _unreadable(text, error.lineno) from None
        except (RecursionError, SyntaxError):
            raise TemplateError("the template is nested too deep") from None
        except (ValueError, OverflowError):
            raise TemplateError("a number in the template is too long") from None
        used = list(_columns(tree, optional=True))
        return cls(
            source=text,
            columns=frozenset(_columns(tree, optional=False)),
            used=None if _WHOLE in used else frozenset(filter(None, used)),
            _compiled=compiled,
        )

    def check(self, columns: Collection[str]) -> None:
        """Raise TemplateError for the first column that is missing."""
        missing = self.columns.difference(columns)
        if missing:
            first = min(missing, key=lambda name: _place(self.source, name))
            line, column = _place(self.source, first)
            raise TemplateError(_no_column(first, columns), line=line, column=column)

    def render(self, fields: Mapping[str, object]) -> str:
        """Return the prompt of a row. Raises TemplateError if the row does not fit."""
        missing = self.columns.difference(fields)
        if missing:
            shown = _listed(fields) or "none"
            raise TemplateError(
                f"the row has no column {min(missing)!r} (it has {shown})"
            )
        try:
            return self._joined(fields)
        except UnusableError as error:
            raise self._with_column(error, fields) from None
        except jinja2.UndefinedError as error:
            raise TemplateError(str(error.message)) from None
        except RecursionError:
            raise TemplateError("lists and objects are nested too deep") from None

    def _with_column(
        self, error: UnusableError, fields: Mapping[str, object]
    ) -> TemplateError:
        """Add the column's name to the error of a value that cannot be written."""
        for name, value in fields.items():
            used = self.used is None or name in self.used
            if used and holds(value, error.value):
                return TemplateError(f"column {name!r}: {error}")
        return error

    def _joined(self, fields: Mapping[str, object]) -> str:
        pieces: list[str] = []
        length = 0
        for piece in self._compiled.generate({**fields, _WHOLE: dict(fields)}):
            length += len(piece)
            refuse_damaged(piece)
            if length > MOST_CHARACTERS:
                raise TemplateError(
                    f"the prompt is longer than {MOST_CHARACTERS:,} characters"
                )
            pieces.append(piece)
        return "".join(pieces)


def _environment() -> _Environment:
    environment = _Environment(
        undefined=_Missing,
        autoescape=False,  # prompts are not HTML
        keep_trailing_newline=True,
        finalize=written,
        cache_size=0,
        optimized=False,  # else constants are computed before any bound applies
    )
    environment.globals.clear()
    environment.tests.clear()
    environment.filters.clear()
    environment.filters.update(FILTERS)
    return environment


def _no_column(name: str, columns: Collection[str]) -> str:
    message = f"unknown column {name!r} (available: {_listed(columns) or 'none'})"
    # `{{ a.b }}` where one column is called "a.b"; or "a b", "a-b"
    begins = re.compile(rf"{re.escape(name)}\W")
    near = next(filter(begins.match, columns), "")
    return f"{message}; for {near!r} write {_reference(near)}" if near else message


def _listed(columns: Collection[str]) -> str:
    listed = list(columns)
    shown = ", ".join(repr(each) for each in listed[:_SHOWN_COLUMNS])
    return f"{shown}, ..." if len(listed) > _SHOWN_COLUMNS else shown


def _reference(name: str) -> str:
    quoted = f"'{name}'" if '"' in name else f'"{name}"'
    return f"{{{{ row[{quoted}] }}}}"


def _unreadable(text: str, line: int) -> TemplateError:
    """Return the error of a template that Jinja2 cannot parse."""
    for opening, closing in (("{{", "}}"), ("{#", "#}"), ("{%", "%}")):
        begins = text.rfind(opening)
        if begins >= 0 and closing not in text[begins:]:
            return _at(text, begins, f"{opening!r} is not closed by {closing!r}")
    if "{%" in "".join(text.split("\n")[line - 1 : line]):
        return TemplateError(f"a statement cannot be used: {_MAY_HOLD}", line=line)
    for found in _OUTPUT.finditer(text):
        if text.count("\n", 0, found.end()) + 1 >= line:
            return _at(text, found.start(), _unclear(found[0]))
    return TemplateError(f"the template cannot be read: {_MAY_HOLD}", line=line)


def _unclear(output: str) -> str:
    shown = repr(output if len(output) <= _SHOWN else f"{output[:_SHOWN]}...")
    if words := _WORDS.match(output):
        return f"{shown} is not clear; for this column write {_reference(words[1])}"
    return f"{shown} cannot be read: {_MAY_HOLD}"


def _at(text: str, place: int, message: str) -> TemplateError:
    line = text.count("\n", 0, place) + 1
    return TemplateError(message, line=line, column=place - text.rfind("\n", 0, place))


def _check(tree: nodes.Template, source: str) -> None:
    """Allow few kinds of nodes, limited in number and depth. Raises TemplateError."""
    for count, (node, depth) in enumerate(_walk(tree, 0)):
        if count > _MOST_NODES or depth > _DEEPEST:
            raise TemplateError("the template is too large", line=node.lineno)
        if not _allowed(node):
            words = _WORDS.search(source) if isinstance(node, nodes.BinExpr) else None
            if words:
                raise _at(source, words.start(), _unclear(words[0] + "}}"))
            raise TemplateError(
                f"{_word(node)} cannot be used: {_MAY_HOLD}", line=node.lineno
            )
        if isinstance(node, nodes.Filter):
            _check_filter(node, source)


def _allowed(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const | nodes.Neg)
    if isinstance(node, nodes.Neg):
        number = node.node.value if isinstance(node.node, nodes.Const) else None
        return isinstance(number, int | float)
    return isinstance(node, _ALLOWED)


def _check_filter(node: nodes.Filter, source: str) -> None:
    def wrong(message: str) -> TemplateError:
        line, column = _place(source, node.name, behind="pipe")
        return TemplateError(message, line=line, column=column)

    if node.name not in FILTERS:
        known = ", ".join(FILTERS)
        raise wrong(f"unknown filter {node.name!r} (available: {known})")
    if node.kwargs or node.dyn_args or node.dyn_kwargs:
        raise wrong(f"filter {node.name!r} takes its arguments without names")
    least, most = arguments_of(node.name)
    if not least <= len(node.args) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise wrong(
            f"filter {node.name!r} takes {wanted} arguments, got {len(node.args)}"
        )


def _word(node: nodes.Node) -> str:
    for kind, word in _NAMED:
        if isinstance(node, kind):
            return word
    return f"{type(node).__name__.lower()!r}"


def _walk(node: nodes.Node, depth: int) -> Iterator[tuple[nodes.Node, int]]:
    yield node, depth
    for child in node.iter_child_nodes():
        yield from _walk(child, depth + 1)


def _columns(node: nodes.Node, *, optional: bool) -> Iterator[str]:
    """Yield the columns that are read, and `row` if the complete row is used.

    optional: also columns that may be missing
    """
    if isinstance(node, nodes.Filter) and node.name == "default" and not optional:
        return
    if isinstance(node, nodes.Name):
        if node.name != _WHOLE or optional:
            yield node.name
        return
    if (
        isinstance(node, nodes.Getitem | nodes.Getattr)
        and isinstance(node.node, nodes.Name)
        and node.node.name == _WHOLE
    ):
        name = node.attr if isinstance(node, nodes.Getattr) else node.arg.as_const()
        if isinstance(name, str):
            yield name
        return
    for child in node.iter_child_nodes():
        yield from _columns(child, optional=optional)


def _place(source: str, name: str, behind: str = "") -> tuple[int, int]:
    """Return line and column of a name's first use; (1, 1) if it is not found.

    behind: kind of the token before it: `pipe` for a filter
    """
    line, column, before = 1, 1, ""
    for _, kind, text in _environment().lex(source):
        word = text.strip("'\"") if kind == "string" else text
        if kind in {"name", "string"} and word == name and _fits(before, behind):
            return line, column
        if kind != "whitespace":
            before = text
        newlines = text.count("\n")
        line += newlines
        column = len(text) - text.rfind("\n") if newlines else column + len(text)
    return 1, 1


def _fits(before: str, behind: str) -> bool:
    if behind == "pipe":
        return before == "|"
    return before != "|"
