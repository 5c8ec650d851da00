"""A job's file as items: OpenAI's lines, or a dataset's rows through the template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from router.errors import DatasetError, TemplateError
from router.jobs.input import readers as datasets
from router.jobs.input.openai_lines import LineError, Requests, bad_item
from router.jobs.input.prompts import row_items
from router.jobs.input.readers import BadRow, Sample
from router.jobs.input.reading import FileError
from router.jobs.input.template import Template
from router.jobs.model import Fault, Format, ItemKind, Job, NewItem
from router.jobs.planning.protocols import Predictor
from router.jobs.reducers import samples


class Files:
    """A `router.jobs.input.reading.Source`; for native threads.

    limits: of a dataset; `longest` is that of a line of OpenAI's
    """

    def __init__(
        self,
        predictor: Predictor,
        limits: Callable[[], datasets.Limits],
    ) -> None:
        self._predictor = predictor
        self._limits = limits

    def items(self, job: Job, path: Path) -> Iterator[NewItem]:
        """Yield the file's items in order. Raises FileError."""
        if job.spec.format is Format.OPENAI:
            return self._requests(job, path)
        return self._rows(job, path)

    def sample(self, path: Path, kind: Format) -> Sample:
        """Read the first rows. Raises DatasetError."""
        return datasets.columns(path, kind, self._limits())

    def _requests(self, job: Job, path: Path) -> Iterator[NewItem]:
        requests = Requests(job.spec, self._predictor, self._limits().row_bytes)
        try:
            with path.open("rb") as source:
                yield from requests.read(source)
        except OSError as error:
            raise _unusable(str(error.strerror)) from error

    def _rows(self, job: Job, path: Path) -> Iterator[NewItem]:
        spec = job.spec
        template = Template.parse(spec.template)
        try:
            for row in datasets.read(path, spec.format, self._limits()):
                if isinstance(row, BadRow):
                    yield from self._bad(job, row)
                    continue
                try:
                    prompt = template.render(row.fields)
                except TemplateError as error:
                    bad = BadRow(row.index, row.line, None, str(error))
                    yield from self._bad(job, bad)
                    continue
                yield from row_items(spec, self._predictor, row.index, prompt)
        except DatasetError as error:
            raise _unusable(str(error)) from error
        except OSError as error:
            raise _unusable(str(error.strerror)) from error

    def _bad(self, job: Job, row: BadRow) -> Iterator[NewItem]:
        """Fail a row; where it makes several items, each of them."""
        count = samples(job.spec.reducer)
        for sample in range(count):
            item = bad_item(
                row.index * count + sample, row.line, LineError(row.message, row.column)
            )
            key = str(row.index) if count == 1 else f"{row.index}.{sample}"
            yield NewItem(
                key, ItemKind.ROW, item.index, "", "", "", b"", 0.0, item.fault
            )


def _unusable(message: str) -> FileError:
    return FileError(Fault("invalid_file", message))
