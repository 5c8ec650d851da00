"""Reads a job's file from beginning to end, and reports its items.

Runs in the sandbox. A row that can be read again is not stored; of other rows, the
columns that the prompt uses are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from router.errors import DatasetError, TemplateError
from router.jobs.input.filters import as_json, replaced
from router.jobs.input.openai_lines import BadLine, Request, Requests
from router.jobs.input.preview import ROW_SECONDS
from router.jobs.input.prompts import request
from router.jobs.input.readers import (
    NOWHERE,
    BadRow,
    ReadLimits,
    Row,
    open_dataset,
)
from router.jobs.input.readers.text import open_utf8
from router.jobs.input.sandbox.confinement import deadline
from router.jobs.input.sandbox.frames import Frame
from router.jobs.input.template import Template
from router.jobs.model import STORED_FIELDS, STORED_REQUEST, Format, JobSpec
from router.jobs.spec import read_spec

_PAGE_ROWS = 500
_PAGE_BYTES = 1024 * 1024

# One row: what is reported of it, and what is stored.
Scanned = tuple[dict[str, Any], bytes]


def scan(question: Mapping[str, Any]) -> Iterator[Frame]:
    """Yield pages of rows, and at last the notes on how the file was read.

    skip: rows that were already reported
    copy: whether to store every row, because other routers lack the file
    Raises DatasetError, TemplateError.
    """
    spec = read_spec(question["spec"])
    notes: list[str] = []
    source = _requests if spec.format is Format.OPENAI else _rows
    rows = source(spec, question, notes)
    yield from _pages(_counted(rows), question["skip"])
    yield {"end": True, "notes": notes}, b""


def _counted(rows: Iterator[Scanned]) -> Iterator[Scanned]:
    """Pass rows on; raise DatasetError at the end if none of them can be used."""
    faults: list[Scanned] = []
    good = False
    for reported in rows:
        good = good or "fault" not in reported[0]
        if not good and len(faults) < 1:
            faults.append(reported)
        yield reported
    if faults and not good:
        first = faults[0][0]
        place = f"line {first['line']}: " if first["line"] else ""
        raise DatasetError(f"not one row can be used; {place}{first['fault']}")


def _pages(rows: Iterator[Scanned], skip: int) -> Iterator[Frame]:
    heads: list[dict[str, Any]] = []
    bodies: list[bytes] = []
    size = 0
    for number, (head, body) in enumerate(rows):
        if number < skip:
            continue
        heads.append({**head, "bytes": len(body)})
        bodies.append(body)
        size += len(body)
        if len(heads) >= _PAGE_ROWS or size >= _PAGE_BYTES:
            yield {"rows": heads}, b"".join(bodies)
            heads, bodies, size = [], [], 0
    if heads:
        yield {"rows": heads}, b"".join(bodies)


def _rows(
    spec: JobSpec, question: Mapping[str, Any], notes: list[str]
) -> Iterator[Scanned]:
    template = Template.parse(spec.template)
    limits = ReadLimits(**question["limits"])
    path = Path(question["path"])
    with open_dataset(path, spec.format, limits, spec.reading) as dataset:
        for row in dataset.rows(template.used):
            if isinstance(row, BadRow):
                yield _bad(row.index, row.line, row.message, row.column), b""
                continue
            try:
                with deadline(ROW_SECONDS):
                    prompt = template.render(row.fields)
            except TemplateError as error:
                yield _bad(row.index, row.line, str(error)), b""
                continue
            size = len(request(spec, prompt, 0))
            place, kept = row.place, b""
            if question["copy"] or place == NOWHERE:
                place, kept = STORED_FIELDS, _kept(row, template)
            yield {"index": row.index, "size": size, "place": place}, kept
        notes += dataset.notes()


def _kept(row: Row, template: Template) -> bytes:
    """Write the columns that a prompt is made of.

    A value that cannot be written becomes null: the prompt does not show it, or its
    row would have failed.
    """
    used = {
        name: value
        for name, value in row.fields.items()
        if template.used is None or name in template.used
    }
    return as_json(replaced(used, lambda _: None)).encode()


def _bad(
    index: int, line: int, message: str, column: int | None = None
) -> dict[str, Any]:
    return {"index": index, "line": line, "column": column, "fault": message}


def _requests(
    spec: JobSpec, question: Mapping[str, Any], _notes: list[str]
) -> Iterator[Scanned]:
    limits = ReadLimits(**question["limits"])
    opened = open_utf8(Path(question["path"]), limits.file_bytes)
    with closing(opened.file):
        for each in Requests(spec.endpoint, limits.row_bytes).read(opened):
            if isinstance(each, BadLine):
                yield _bad_line(each), b""
            else:
                yield _request(each, copy=question["copy"])


def _request(found: Request, *, copy: bool) -> Scanned:
    here = found.place != NOWHERE and not copy
    head = {
        "index": found.index,
        "size": len(found.body),
        "place": found.place if here else STORED_REQUEST,
        "custom_id": found.custom_id,
        "model": found.model,
        "most": found.most,
    }
    return head, b"" if here else found.body


def _bad_line(bad: BadLine) -> dict[str, Any]:
    reported = _bad(bad.index, bad.line, str(bad.error), bad.error.column)
    return {**reported, "param": bad.error.param, "custom_id": bad.custom_id}
