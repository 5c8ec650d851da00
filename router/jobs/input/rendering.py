"""Makes the request of one item when it runs. Runs in the sandbox."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.errors import DatasetError, TemplateError
from router.jobs.input.openai_lines import LineError, Requests
from router.jobs.input.preview import ROW_SECONDS
from router.jobs.input.prompts import request
from router.jobs.input.readers import BadRow, ReadLimits, open_dataset
from router.jobs.input.readers.text import open_utf8
from router.jobs.input.sandbox.confinement import deadline
from router.jobs.input.sandbox.frames import Frame
from router.jobs.input.template import Template
from router.jobs.model import Format, JobSpec
from router.jobs.reducers import samples
from router.jobs.spec import read_spec

_MOST_JOBS = 4  # whose files are open at one time

# Makes a request from a place in the file, or from a stored body.
Make = Callable[[int, int, bytes], bytes]


@dataclass(frozen=True, slots=True)
class _Open:
    make: Make
    close: Callable[[], None]


class Rendering:
    """Keeps the files of the last few jobs open."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def render(self, question: Mapping[str, Any], stored: bytes) -> Frame:
        """Return the request, or why it cannot be made.

        The question must have the `spec` of a job that is not open.
        """
        job = question["job"]
        found = self._open.get(job)
        if found is None:
            if "spec" not in question:
                return {"unknown": job}, b""
            found = self._opened(question)
        self._open.move_to_end(job)
        if question["command"] == "open":
            return {}, b""
        try:
            return {}, found.make(question["place"], question["index"], stored)
        except (DatasetError, TemplateError, LineError, StopIteration) as error:
            return {"fault": str(error) or "the row is not there any more"}, b""

    def _opened(self, question: Mapping[str, Any]) -> _Open:
        if len(self._open) >= _MOST_JOBS:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        spec = read_spec(question["spec"])
        opener = _lines if spec.format is Format.OPENAI else _rows
        made = opener(spec, Path(question["path"]), ReadLimits(**question["limits"]))
        self._open[question["job"]] = made
        return made


def _lines(spec: JobSpec, path: Path, limits: ReadLimits) -> _Open:
    opened = open_utf8(path, limits.file_bytes)
    requests = Requests(spec.endpoint, limits.row_bytes)

    def make(place: int, _index: int, _stored: bytes) -> bytes:
        return requests.at(opened, place)

    return _Open(make, opened.file.close)


def _rows(spec: JobSpec, path: Path, limits: ReadLimits) -> _Open:
    template, count, stack = (
        Template.parse(spec.template),
        samples(spec.reducer),
        ExitStack(),
    )
    dataset = None

    def fields(place: int, stored: bytes) -> Mapping[str, object]:
        nonlocal dataset
        if stored:
            found: dict[str, object] = json.loads(stored)
            return found
        if dataset is None:  # stored rows need no file
            opening = open_dataset(path, spec.format, limits, spec.reading)
            dataset = stack.enter_context(opening)
        row = dataset.at(place, template.used)
        if isinstance(row, BadRow):
            raise DatasetError(row.message)
        return row.fields

    def make(place: int, index: int, stored: bytes) -> bytes:
        with deadline(ROW_SECONDS):
            prompt = template.render(fields(place, stored))
        return request(spec, prompt, index % count)

    return _Open(make, stack.close)
