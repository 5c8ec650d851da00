"""Ends jobs that are complete, cancelled or expired."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from sqlalchemy import Connection

from router.errors import NotFoundError
from router.jobs.execution.active import ActiveJob
from router.jobs.model import (
    CANCELLED,
    EXPIRED,
    ItemFault,
    Job,
    JobState,
    StoredFile,
)
from router.jobs.output import ANSWERED, NOT_ANSWERED, openai_line, rendered
from router.jobs.store import files, items, jobs
from router.jobs.store.database import JobDatabase
from router.jobs.store.encoding import dumped
from router.logs.events import get_logger

_PIECE = 2000
_PAUSE_SECONDS = 0.02
# A larger end product is not stored with its job; texts are made of the results.
_MOST_REDUCED_BYTES = 8 * 1024 * 1024

log = get_logger("jobs")


def output_file(job: str) -> str:
    return f"file-{job.removeprefix('batch_')}-output"


def error_file(job: str) -> str:
    return f"file-{job.removeprefix('batch_')}-errors"


class Completion:
    """Moves jobs to their final states.

    stop_attempts: stops a job's attempts in flight
    ended:         called with the final state
    """

    def __init__(
        self,
        database: JobDatabase,
        stop_attempts: Callable[[ActiveJob], None],
        ended: Callable[[JobState], None],
    ) -> None:
        self._database = database
        self._stop_attempts = stop_attempts
        self._ended = ended

    def move_on(self, active: ActiveJob) -> bool:
        """Move the job on as far as possible; return whether its state changed.

        Raises StoreError; what was done so far stays, the next call does the rest.
        """
        job = active.job
        if job.state is JobState.CANCELLING:
            return self._call_off(active, CANCELLED, JobState.CANCELLED)
        if job.state is JobState.IN_PROGRESS and time.time() >= job.expires:
            active.settling = True
            return self._call_off(active, EXPIRED, JobState.EXPIRED)
        if job.state is JobState.IN_PROGRESS:
            return self._finalize(active)
        if job.state is JobState.FINALIZING:
            return self._end(active, JobState.COMPLETED)
        return False

    def _call_off(self, active: ActiveJob, code: str, after: JobState) -> bool:
        job = active.job.id
        self._stop_attempts(active)
        fault = ItemFault(code, f"the job was {after.value} before this was run")
        while self._database.write(
            lambda c: items.call_off(c, job, fault, now=time.time(), limit=_PIECE)
        ):
            gevent.sleep(_PAUSE_SECONDS)
        if self._database.read(lambda c: items.unsettled(c, job)):
            return False  # some are in flight still, here or on another router
        return self._end(active, after)

    def _finalize(self, active: ActiveJob) -> bool:
        if not active.settled:
            return False
        job = active.job.id
        if active.reduction:
            active.reduction.feed()
        if self._database.read(lambda c: items.unsettled(c, job)):
            active.counted_at = float("-inf")
            return False
        if active.reduction and not active.reduction.finished:
            log.warning("reducer_unfinished", job=job)
        before, now = [JobState.IN_PROGRESS], time.time()
        return self._database.write(
            lambda c: jobs.advance(c, job, before, JobState.FINALIZING, now)
        )

    def _end(self, active: ActiveJob, after: JobState) -> bool:
        """Store the job's end product, costs and output files with its final state."""
        job = active.job
        uploads = self._outputs(job) if job.openai else []
        reduced = self._reduced(active)
        now, costs = time.time(), active.take_costs()

        def end(connection: Connection) -> bool:
            before = [job.state]
            if not jobs.advance(connection, job.id, before, after, now, **reduced):
                return False
            jobs.add_tallies(connection, job.id, costs)
            for upload in uploads:
                try:
                    files.get(connection, upload.id)
                except NotFoundError:
                    files.add(connection, upload)
            return True

        ended = False
        try:
            ended = self._database.write(end)
        finally:
            if not ended:
                active.put_back(costs)
        if ended:
            log.info("job_ended", job=job.id, state=after.value)
            self._ended(after)
        return ended

    def _reduced(self, active: ActiveJob) -> dict[str, str]:
        if active.reduction is None:
            return {}
        active.reduction.feed()
        covers = active.reduction.partial().covers
        text = dumped({"value": active.reduction.output(), "covers": covers})
        if len(text) > _MOST_REDUCED_BYTES:
            return {}
        return {"reduced": text}

    def _outputs(self, job: Job) -> list[StoredFile]:
        """Describe the output and error files; their bytes are the results."""
        found = []
        for file, purpose, states in (
            (output_file(job.id), "batch_output", ANSWERED),
            (error_file(job.id), "batch_error", NOT_ANSWERED),
        ):
            pieces = rendered(self._database, job.id, states, openai_line)
            size = 0
            for piece in pieces:
                size += len(piece)
                gevent.sleep(0.001)  # rendering holds the loop for a page at a time
            if size:
                name = f"{job.id}_{purpose.removeprefix('batch_')}.jsonl"
                found.append(
                    StoredFile(
                        file,
                        name,
                        purpose,
                        size,
                        time.time(),
                        job.id,
                        account=job.account,
                    )
                )
        return found
