"""Deletes expired jobs with everything they own, and files that no job needs.

Open jobs are never touched. A deletion is marked first, so that the job cannot be run
again, and a router that is killed during it, or another one, completes it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import gevent
from sqlalchemy import Connection

from router.errors import ConflictError, NotFoundError
from router.jobs.input.uploads import Uploads
from router.jobs.store import files, jobs, space
from router.jobs.store.database import JobDatabase
from router.logs.events import get_logger

_PIECE = 2000
_PAUSE_SECONDS = 0.01
ASKED, RETENTION = "asked", "retention"

log = get_logger("jobs")


@dataclass(frozen=True, slots=True)
class StorageUse:
    """Bytes on disk, and the number of deleted jobs by reason."""

    store_bytes: int = 0
    file_bytes: int = 0
    deleted: tuple[tuple[str, int], ...] = ((ASKED, 0), (RETENTION, 0))


class Retention:
    """Deletes expired jobs and files. Methods wait for the database; raise StoreError.

    seconds:  how long a job is kept after its end, and an unused file; 0: for ever
    measured: called with a function that returns the bytes in use
    """

    def __init__(
        self,
        database: JobDatabase,
        uploads: Uploads,
        seconds: Callable[[], float],
        measured: Callable[[Callable[[], int]], object] = lambda weigh: weigh(),
    ) -> None:
        self._database = database
        self._uploads = uploads
        self._measured = measured
        self._seconds = seconds
        self._deleted = Counter({ASKED: 0, RETENTION: 0})
        self.kept = StorageUse()

    def sweep(self) -> None:
        """Delete what has expired, and return its space to the disk."""
        now = time.time()
        self._remove_files(lambda c: files.expired(c, now))
        seconds = self._seconds()
        if seconds:
            self._remove_jobs(now - seconds)
            self._remove_files(lambda c: files.unused(c, now - seconds))
        for job in self._database.read(jobs.half_removed):  # their removal was cut off
            self._drop(job)
        self._uploads.sweep(self._known)
        while not self._database.write(space.shrink):
            gevent.sleep(_PAUSE_SECONDS)
        self._measured(self._weigh)

    def remove_file(self, file: str) -> None:
        """Raises NotFoundError, ConflictError while a running job has it."""
        self._database.write(lambda c: files.remove(c, file))
        self._uploads.remove(file)

    def remove_job(self, job: str, reason: str = ASKED) -> None:
        """Delete a job that is over, with its results.

        Raises NotFoundError, ConflictError where it is not over.
        """
        now = time.time()
        self._database.write(lambda c: jobs.begin_removal(c, job, now))
        self._drop(job)
        self._deleted[reason] += 1

    def _drop(self, job: str) -> None:
        while not self._database.write(lambda c: jobs.remove(c, job, _PIECE)):
            gevent.sleep(_PAUSE_SECONDS)
        log.info("job_deleted", job=job)

    def _remove_jobs(self, horizon: float) -> None:
        place: jobs.Place | None = jobs.FIRST
        while place is not None:
            page = partial(jobs.ended_before, horizon=horizon, after=place)
            found, place = self._database.read(page)
            for job in found:
                try:
                    self.remove_job(job, RETENTION)
                except (ConflictError, NotFoundError):
                    continue  # somebody runs it again, or was first

    def _remove_files(self, find: Callable[[Connection], list[str]]) -> None:
        for file in self._database.read(find):
            try:
                self.remove_file(file)
            except (ConflictError, NotFoundError):
                continue  # a job that is not over has it: then next time

    def _known(self, names: list[str]) -> Collection[str]:
        return self._database.read(lambda c: files.known(c, names))

    def _weigh(self) -> int:
        self.kept = StorageUse(
            self._database.read(space.store_bytes),
            self._database.read(space.file_bytes),
            tuple(sorted(self._deleted.items())),
        )
        return self.kept.store_bytes + self.kept.file_bytes
