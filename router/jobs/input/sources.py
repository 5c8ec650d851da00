"""Reads a job's file in a sandbox: for a preview, and into pages of items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gevent.lock import BoundedSemaphore

from router.errors import OverloadedError
from router.jobs.input.prompts import item_key, row_items
from router.jobs.input.readers import ReadLimits
from router.jobs.input.sandbox.process import Sandbox, SandboxError, SandboxLimits
from router.jobs.model import Format, ItemFault, ItemKind, Job, NewItem
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.reducers import samples
from router.jobs.spec import spec_text
from router.model import canonical

# A preview occupies a process with its memory: few run at one time, others wait.
_LOOKS = 2
_QUEUE_SECONDS = 20.0
_LOOK_SECONDS = 30.0
_PIECE_ITEMS = 500
_LOOK_CPU_SECONDS = 15
_SCAN_CPU_SECONDS = 900
_SCAN_STALL_SECONDS = 120.0


class FileError(Exception):
    """A file that cannot be used at all."""

    def __init__(self, fault: ItemFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class LookError(Exception):
    """A file or a template that cannot be used; `param` says which."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Look:
    """A file to check before a job is made of it.

    show: whether to return rows and prompts, or only to check them
    """

    path: Path
    format: Format
    reading: Mapping[str, object]
    template: str = ""
    show: bool = False


@dataclass(frozen=True, slots=True)
class FileSettings:
    """memory_bytes: of a sandbox, beside the program's own."""

    limits: ReadLimits
    memory_bytes: int


class DatasetFiles:
    """Reads uploaded files in a sandbox; methods wait without blocking the event loop.

    copies: whether items must store their rows, because other routers that may run
            them lack the file
    """

    def __init__(
        self,
        predictor: LengthPredictor,
        settings: Callable[[], FileSettings],
        *,
        copies: bool = False,
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._copies = copies
        self._looks = BoundedSemaphore(_LOOKS)

    def look(self, asked: Look) -> bytes:
        """Return a preview as JSON. Raises LookError, OverloadedError."""
        if not self._looks.acquire(timeout=_QUEUE_SECONDS):
            raise OverloadedError(
                "too many files are being looked at, try again", retry_after_seconds=5
            )
        try:
            return self._look(asked)
        finally:
            self._looks.release()

    def _look(self, asked: Look) -> bytes:
        question = {
            "command": "preview",
            **asdict(asked),
            "path": str(asked.path),
            "limits": asdict(self._settings().limits),
        }
        with self._sandbox(_LOOK_CPU_SECONDS) as sandbox:
            try:
                sandbox.send(question)
                head, body = sandbox.receive(_LOOK_SECONDS)
            except SandboxError as error:
                raise LookError(f"the file cannot be read: {error}", "file") from error
        if "fault" in head:
            raise LookError(head["fault"], head["param"])
        return body

    def pages(
        self, job: Job, path: Path, noted: Callable[[list[str]], None]
    ) -> Iterator[list[NewItem]]:
        """Yield the file's items in order, those after `job.rows_read`.

        noted: called at the end with notes on how the file was read
        Raises FileError.
        """
        question = {
            "command": "scan",
            "path": str(path),
            "spec": spec_text(job.spec),
            "limits": asdict(self._settings().limits),
            "skip": job.rows_read // samples(job.spec.reducer),
            "copy": self._copies,
        }
        with self._sandbox(_SCAN_CPU_SECONDS) as sandbox:
            try:
                sandbox.send(question)
                while True:
                    head, body = sandbox.receive(_SCAN_STALL_SECONDS)
                    if "fault" in head:
                        raise unusable(head["fault"])
                    if "end" in head:
                        noted(head["notes"])
                        return
                    yield from _pieces(self._rows(job, head["rows"], body))
            except SandboxError as error:
                raise unusable(f"the file cannot be read: {error}") from error

    def _sandbox(self, cpu_seconds: int) -> Sandbox:
        return Sandbox(SandboxLimits(self._settings().memory_bytes, cpu_seconds))

    def _rows(
        self, job: Job, rows: list[dict[str, Any]], bodies: bytes
    ) -> Iterator[list[NewItem]]:
        """Yield the items of each row."""
        at = 0
        for row in rows:
            body = bodies[at : at + row["bytes"]]
            at += row["bytes"]
            if "fault" in row:
                yield list(bad_items(job, row))
            elif job.spec.format is Format.OPENAI:
                yield [self._request(job, row, body)]
            else:
                index, size, place = row["index"], row["size"], row["place"]
                yield row_items(
                    job.spec, self._predictor, index, size, place=place, body=body
                )

    def _request(self, job: Job, row: dict[str, Any], body: bytes) -> NewItem:
        model = canonical(row["model"])
        return NewItem(
            key=str(row["index"]),
            kind=ItemKind.ROW,
            index=row["index"],
            custom_id=row["custom_id"],
            endpoint=job.spec.endpoint,
            model=model,
            body=body,
            weight=self._predictor.predict(model, row["size"], row["most"]),
            place=row["place"],
            size=row["size"],
        )


def _pieces(rows: Iterator[list[NewItem]]) -> Iterator[list[NewItem]]:
    """Gather rows into pages that are stored at one time; rows are not divided."""
    page: list[NewItem] = []
    for some in rows:
        page += some
        if len(page) >= _PIECE_ITEMS:
            yield page
            page = []
    if page:
        yield page


def bad_items(job: Job, row: Mapping[str, Any]) -> Iterator[NewItem]:
    """Yield the failed items of a row."""
    count = samples(job.spec.reducer)
    place = f"line {row['line']}"
    if row["column"]:
        place += f", column {row['column']}"
    fault = ItemFault(
        "invalid_line",
        f"{place}: {row['fault']}",
        row["line"],
        row["column"],
        row.get("param"),
    )
    custom_id = row.get("custom_id", "")
    for sample in range(count):
        index = row["index"]
        key, number = item_key(index, sample, count), index * count + sample
        yield NewItem(key, ItemKind.ROW, number, custom_id, "", "", b"", 0.0, fault)


def unusable(message: str) -> FileError:
    return FileError(ItemFault("invalid_file", message))
