"""Makes the preview of a file: its first rows and prompts, bounded in size.

Runs in the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from router.errors import TemplateError
from router.jobs.input.filters import as_json, replaced
from router.jobs.input.readers import (
    BadRow,
    Dataset,
    DatasetSample,
    ReadLimits,
    Unusable,
    open_dataset,
)
from router.jobs.input.sandbox.confinement import deadline
from router.jobs.input.sandbox.frames import clean
from router.jobs.input.template import Template
from router.jobs.model import Format

ROWS = 20
ROW_SECONDS = 2.0
_MOST_TOGETHER = 256 * 1024
_MOST_CELL, _LEAST_CELL = 1_000, 20
_MOST_PROMPT = 16 * 1024
_MOST_NAMES = 256 * 1024  # characters of the names in all rows that are shown
_MOST_MESSAGE = 500


def preview(question: Mapping[str, Any]) -> bytes:
    """Check a template against the first rows; return both if `show` is set.

    Raises DatasetError, TemplateError.
    """
    template = _template(question)
    limits = ReadLimits(**question["limits"])
    path, kind = Path(question["path"]), Format(question["format"])
    with open_dataset(path, kind, limits, question["reading"]) as dataset:
        cells = _Cells()
        sample = dataset.sample(ROWS, cells.shown)
        if template is not None:
            template.check(sample.columns)
        if not question["show"]:
            return b"{}"
        shown = _shown(kind, sample)
    if template is not None:
        with open_dataset(path, kind, limits, question["reading"]) as dataset:
            shown["prompts"] = list(_prompts(template, dataset))
    return orjson.dumps(clean(shown))


def _template(question: Mapping[str, Any]) -> Template | None:
    text = question["template"]
    return Template.parse(text) if text else None


def _shown(kind: Format, sample: DatasetSample) -> dict[str, Any]:
    return {
        "format": kind.value,
        "reading": dict(sample.reading),
        "notes": list(sample.notes),
        "columns": list(sample.columns),
        "rows": [dict(row.fields) for row in sample.rows[: _shown_rows(sample)]],
        "faults": [
            {
                "line": bad.line,
                "column": bad.column,
                "message": bad.message[:_MOST_MESSAGE],
            }
            for bad in sample.faults
        ],
    }


def _shown_rows(sample: DatasetSample) -> int:
    """Return how many rows to show: each repeats the names of its columns."""
    characters = sum(map(len, sample.columns))
    return max(1, min(ROWS, _MOST_NAMES // max(1, characters)))


def _prompts(template: Template, dataset: Dataset) -> Iterator[str]:
    """Yield the prompts of the rows shown."""
    rows = dataset.rows(template.used)
    for row in islice(rows, ROWS):
        if isinstance(row, BadRow):
            continue
        try:
            with deadline(ROW_SECONDS):
                prompt = template.render(row.fields)
        except TemplateError as error:
            prompt = f"(this row fails: {error})"
        yield _cut(prompt, _MOST_PROMPT)


class _Cells:
    """Shortens values for the preview, within a bound for all together."""

    def __init__(self) -> None:
        self._left = _MOST_TOGETHER

    def shown(self, value: object) -> object:
        most = _MOST_CELL if self._left > 0 else _LEAST_CELL
        made = _cell(value, most)
        self._left -= len(made) if isinstance(made, str) else _LEAST_CELL
        return made


def _cell(value: object, most: int) -> object:
    if isinstance(value, Unusable):
        return _cut(f"({value.reason})", most)
    if isinstance(value, str):
        return _cut(value, most)
    if isinstance(value, dict | list):
        return _container(value, most)
    return value


def _container(value: dict[str, Any] | list[Any], most: int) -> object:
    """Return a small value as it is, of a large one the beginning as text."""
    try:
        text = as_json(value)
    except TemplateError:
        text = as_json(replaced(value, lambda bad: f"({bad.reason})"))
        value = orjson.loads(text)
    return value if len(text) <= most else _cut(text, most)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text):,} characters)"
