"""Turns a job's file into items, page by page; goes on where it was broken off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import gevent
from sqlalchemy import Connection

from router.jobs.model import BadLines, Fault, Job, JobState, NewItem
from router.jobs.store import items, jobs
from router.jobs.store.database import Database
from router.threads import JOBS

_PAGE_ITEMS = 500
_PAGE_BYTES = 4 * 1024 * 1024
# Between two pages people have the processor: parsing holds the interpreter.
_PAUSE_SECONDS = 0.002


class FileError(Exception):
    """A file that is of no use as a whole."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Source(Protocol):
    """Reads a job's file. It is only ever used in native threads."""

    def items(self, job: Job, path: Path) -> Iterator[NewItem]:
        """Yield the file's items in order; bounded memory. Raises FileError."""


@dataclass(frozen=True, slots=True)
class Limits:
    items: int


class Reading:
    """Reads one job; see the module."""

    def __init__(
        self,
        database: Database,
        source: Source,
        limits: Callable[[], Limits],
    ) -> None:
        self._database = database
        self._source = source
        self._limits = limits

    def read(self, job: Job, path: Path, told: Callable[[int], None]) -> JobState:
        """Read the file to its end; returns the state that the job is in then.

        `told` hears how many rows are items. Raises StoreError: call it again.
        """
        try:
            rows = self._pages(job, path, told)
        except _ElsewhereError as error:
            return error.state
        except FileError as error:
            return self.fail(job, error.fault)
        if rows == 0:
            return self.fail(job, Fault("empty_file", "the file has no rows"))
        return self._database.write(lambda c: _begin(c, job, rows))

    def _pages(self, job: Job, path: Path, told: Callable[[int], None]) -> int:
        """Keep page after page; returns the number of items."""
        source = self._source.items(job, path)
        done = job.rows_read
        count = 0
        while page := JOBS(lambda: _page(source)):
            fresh = [item for at, item in enumerate(page, count) if at >= done]
            count += len(page)
            self._check(job, count, page)
            if fresh:
                self._keep(job, count, fresh)
                told(count)
            gevent.sleep(_PAUSE_SECONDS)
        return count

    def _check(self, job: Job, count: int, page: Sequence[NewItem]) -> None:
        most = self._limits().items
        if count > most:
            raise FileError(
                Fault("too_many_rows", f"more than {most} items, the most of a job")
            )
        if job.spec.bad_lines is BadLines.FAIL_JOB:
            for item in page:
                if item.fault:
                    raise FileError(item.fault)

    def _keep(self, job: Job, count: int, fresh: Sequence[NewItem]) -> None:
        now = time.time()
        state = self._database.write(lambda c: _add(c, job, count, fresh, now))
        if state is not JobState.VALIDATING:
            raise _ElsewhereError(state)

    def fail(self, job: Job, fault: Fault) -> JobState:
        """Fail the job. Nothing half-made stays: what was read is dropped."""
        while not self._database.write(lambda c: items.drop(c, job.id, _PAGE_ITEMS)):
            gevent.sleep(_PAUSE_SECONDS)
        now = time.time()

        def fail(connection: Connection) -> JobState:
            jobs.note_rows(connection, job.id, 0, [fault])
            before = [JobState.VALIDATING]
            jobs.advance(connection, job.id, before, JobState.FAILED, now, rows=0)
            return jobs.get(connection, job.id).state

        return self._database.write(fail)


class _ElsewhereError(Exception):
    """The job was cancelled meanwhile."""

    def __init__(self, state: JobState) -> None:
        super().__init__(state)
        self.state = state


def _page(source: Iterator[NewItem]) -> list[NewItem]:
    """Take up to a page, by number and by bytes."""
    page = []
    size = 0
    for item in islice(source, _PAGE_ITEMS):
        page.append(item)
        size += len(item.body)
        if size >= _PAGE_BYTES:
            break
    return page


def _add(
    connection: Connection, job: Job, count: int, fresh: Sequence[NewItem], now: float
) -> JobState:
    state = jobs.get(connection, job.id).state
    if state is JobState.VALIDATING:
        items.add(connection, job.id, fresh, now)
        faults = [item.fault for item in fresh if item.fault]
        jobs.note_rows(connection, job.id, count, faults)
    return state


def _begin(connection: Connection, job: Job, rows: int) -> JobState:
    now = time.time()
    before = [JobState.VALIDATING]
    jobs.advance(connection, job.id, before, JobState.IN_PROGRESS, now, rows=rows)
    return jobs.get(connection, job.id).state
