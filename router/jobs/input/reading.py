"""Turns a job's file into items, page by page; continues after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gevent
from sqlalchemy import Connection

from router.access.principal import allows
from router.config.settings import JobSettings
from router.jobs.input.sources import DatasetFiles, FileError
from router.jobs.model import BadLines, ItemFault, Job, JobState, NewItem
from router.jobs.store import items, jobs
from router.jobs.store.database import JobDatabase

_PIECE = 500
# Between two pages interactive requests get the processor.
_PAUSE_SECONDS = 0.002
_ITEM_BYTES = 400  # of an item in the database, beside what it stores


@dataclass(slots=True)
class _Progress:
    """How far a job's file has been read."""

    items: int
    stored_bytes: int = 0
    notes: Sequence[str] = ()


class Reading:
    """Turns one job's file into items, page by page."""

    def __init__(
        self,
        database: JobDatabase,
        source: DatasetFiles,
        settings: Callable[[], JobSettings],
    ) -> None:
        self._database = database
        self._source = source
        self._settings = settings

    def read(self, job: Job, path: Path, reported: Callable[[int], None]) -> JobState:
        """Read the file to its end; return the job's state after that.

        reported: called with the number of items so far
        Raises StoreError; call it again to continue.
        """
        progress = _Progress(job.rows_read)
        try:
            self._pages(job, path, reported, progress)
        except _ElsewhereError as error:
            return error.state
        except FileError as error:
            return self.fail(job, error.fault)
        if progress.items == 0:
            return self.fail(job, ItemFault("empty_file", "the file has no rows"))
        return self._database.write(lambda c: _begin(c, job, progress))

    def _pages(
        self, job: Job, path: Path, reported: Callable[[int], None], progress: _Progress
    ) -> None:
        def noted(notes: Sequence[str]) -> None:
            progress.notes = notes

        for found in self._source.pages(job, path, noted):
            page = [_permitted(item, job.spec.models) for item in found]
            progress.items += len(page)
            progress.stored_bytes += sum(len(item.body) + _ITEM_BYTES for item in page)
            self._check(job, progress, page)
            self._keep(job, progress.items, page)
            reported(progress.items)
            gevent.sleep(_PAUSE_SECONDS)

    def _check(self, job: Job, progress: _Progress, page: Sequence[NewItem]) -> None:
        settings = self._settings()
        if progress.items > settings.max_items:
            raise FileError(
                ItemFault(
                    "too_many_rows",
                    f"more than {settings.max_items} items (jobs.max_items); split"
                    " the file",
                )
            )
        if progress.stored_bytes > settings.max_job_bytes:
            raise FileError(
                ItemFault(
                    "job_too_large",
                    f"its items take more than {settings.max_job_bytes:,} bytes"
                    " (jobs.max_job_bytes); split the file",
                )
            )
        if job.spec.bad_lines is BadLines.FAIL_JOB:
            for item in page:
                if item.fault:
                    raise FileError(item.fault)

    def _keep(self, job: Job, count: int, page: Sequence[NewItem]) -> None:
        now = time.time()
        state = self._database.write(lambda c: _add(c, job, count, page, now))
        if state is not JobState.VALIDATING:
            raise _ElsewhereError(state)

    def fail(self, job: Job, fault: ItemFault) -> JobState:
        """Fail the job and delete the items read so far."""
        while not self._database.write(lambda c: items.drop(c, job.id, _PIECE)):
            gevent.sleep(_PAUSE_SECONDS)
        now = time.time()

        def fail(connection: Connection) -> JobState:
            jobs.note_rows(connection, job.id, 0, [fault], before=True)
            before = [JobState.VALIDATING]
            jobs.advance(connection, job.id, before, JobState.FAILED, now, rows=0)
            return jobs.get(connection, job.id).state

        return self._database.write(fail)


class _ElsewhereError(Exception):
    """The job left the state `validating` meanwhile."""

    def __init__(self, state: JobState) -> None:
        super().__init__(state)
        self.state = state


def _permitted(item: NewItem, models: tuple[str, ...]) -> NewItem:
    """Fail an item if the job's API key does not allow its model."""
    if item.fault or allows(models, item.model):
        return item
    what = f"the job's API key is not for model {item.model!r}"
    return replace(item, fault=ItemFault("model_not_allowed", what, item.index + 1))


def _add(
    connection: Connection, job: Job, count: int, page: Sequence[NewItem], now: float
) -> JobState:
    state = jobs.get(connection, job.id).state
    if state is JobState.VALIDATING:
        items.add(connection, job.id, page, now)
        faults = [item.fault for item in page if item.fault]
        jobs.note_rows(connection, job.id, count, faults)
    return state


def _begin(connection: Connection, job: Job, progress: _Progress) -> JobState:
    now = time.time()
    jobs.note_reading(connection, job.id, progress.notes)
    before = [JobState.VALIDATING]
    jobs.advance(
        connection, job.id, before, JobState.IN_PROGRESS, now, rows=progress.items
    )
    return jobs.get(connection, job.id).state
