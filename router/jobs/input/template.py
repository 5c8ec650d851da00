"""Prompt templates: `Summarise: {{ text }}` over the columns of a dataset.

The language is a small part of Jinja2's: output of columns, what lies in them by
attribute or index, and a short table of filters. No statements, calls, tests or
operators, so a template can neither loop nor look at Python's objects; and what it
writes is bounded. The only file that imports jinja2 for prompts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import orjson
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from router.errors import TemplateError
from router.jobs.input.filters import FILTERS, MOST_CHARACTERS

__all__ = ["Template"]

_LONGEST_SOURCE = 256 * 1024
_MOST_NODES = 2_000
_DEEPEST = 24
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
    nodes.Neg,  # a negative index
)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, in which even harmless attributes are out of reach."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict | list | str) and not isinstance(argument, slice):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template.

    columns: those that a row must have; not those with the filter `default`
    """

    source: str
    columns: frozenset[str]
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
            message = (error.message or "not a template").rstrip(".")
            raise TemplateError(
                message[:1].lower() + message[1:], line=error.lineno
            ) from None
        except (RecursionError, SyntaxError, MemoryError):
            raise TemplateError("the template is nested too deep") from None
        return cls(text, frozenset(_required(tree)), compiled)

    def check(self, columns: Collection[str]) -> None:
        """Raise TemplateError for the first column that is missing."""
        missing = self.columns.difference(columns)
        if missing:
            first = min(missing, key=lambda name: _place(self.source, name))
            line, column = _place(self.source, first)
            raise TemplateError(_no_column(first, columns), line=line, column=column)

    def render(self, fields: Mapping[str, object]) -> str:
        """Write the prompt of one row. Raises TemplateError: this row does not fit."""
        self.check(fields)
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._compiled.generate({**fields, _WHOLE: dict(fields)}):
                length += len(piece)
                if length > MOST_CHARACTERS:
                    raise TemplateError(
                        f"the prompt is longer than {MOST_CHARACTERS:,} characters"
                    )
                pieces.append(piece)
        except jinja2.UndefinedError as error:
            raise TemplateError(str(error.message)) from None
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise TemplateError(f"a filter cannot take this row: {error}") from None
        return "".join(pieces)


def _environment() -> _Environment:
    environment = _Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # prompts are no HTML
        keep_trailing_newline=True,
        finalize=_written,
        cache_size=0,
        optimized=False,  # constants would be unfolded before anything is bounded
    )
    environment.globals.clear()
    environment.tests.clear()
    environment.filters.clear()
    environment.filters.update(FILTERS)
    return environment


def _written(value: object) -> str:
    """Write a value into a prompt: text as it is, nothing for null, else JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, with the name
    return orjson.dumps(value).decode()


def _no_column(name: str, columns: Collection[str]) -> str:
    shown = ", ".join(repr(each) for each in list(columns)[:50]) or "none"
    return f"there is no column {name!r}; there are {shown}"


def _check(tree: nodes.Template, source: str) -> None:
    """Allow a short list of nodes, few and flat. Raises TemplateError."""
    for count, (node, depth) in enumerate(_walk(tree, 0)):
        if count > _MOST_NODES or depth > _DEEPEST:
            raise TemplateError("the template is too large", line=node.lineno)
        if not isinstance(node, _ALLOWED) or (
            isinstance(node, nodes.Getitem)
            and not isinstance(node.arg, nodes.Const | nodes.Neg)
        ):
            raise TemplateError(
                f"{_word(node)} cannot be used: a prompt may hold columns, their"
                " parts by .name or [number], and filters",
                line=node.lineno,
            )
        if isinstance(node, nodes.Filter):
            _check_filter(node, source)


def _check_filter(node: nodes.Filter, source: str) -> None:
    line, column = _place(source, node.name, behind="pipe")
    if node.name not in FILTERS:
        raise TemplateError(
            f"there is no filter {node.name!r}; there are {', '.join(FILTERS)}",
            line=line,
            column=column,
        )
    if node.kwargs or node.dyn_args or node.dyn_kwargs:
        raise TemplateError(
            f"filter {node.name!r} takes its arguments without names",
            line=line,
            column=column,
        )


def _word(node: nodes.Node) -> str:
    words = {
        nodes.Call: "a call",
        nodes.CondExpr: "a condition",
        nodes.Getitem: "an index that is no number or text",
        nodes.If: "a statement",
        nodes.For: "a statement",
        nodes.Assign: "a statement",
    }
    return words.get(type(node), f"{type(node).__name__.lower()!r}")


def _walk(node: nodes.Node, depth: int) -> Iterator[tuple[nodes.Node, int]]:
    yield node, depth
    for child in node.iter_child_nodes():
        yield from _walk(child, depth + 1)


def _required(node: nodes.Node) -> Iterator[str]:
    """Yield the columns that must be there."""
    if isinstance(node, nodes.Filter) and node.name == "default":
        return
    if isinstance(node, nodes.Name):
        if node.name != _WHOLE:
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
        yield from _required(child)


def _place(source: str, name: str, behind: str = "") -> tuple[int, int]:
    """Return line and column of a name's first use; (1, 1) if it is not found.

    behind: the kind of token that stands before it: `pipe` for a filter
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
