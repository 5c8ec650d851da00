"""The jobs as routes use them: create, show, pause, cancel, delete."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import gevent
from sqlalchemy import Connection

from router.access.principal import Principal
from router.capacity.ledger import Ledger
from router.config.settings import JobSettings
from router.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    OverloadedError,
    ReducerError,
)
from router.jobs import reducers
from router.jobs.execution.active import ActiveJob
from router.jobs.execution.attempts import (
    AttemptDependencies,
    AttemptsInFlight,
)
from router.jobs.execution.completion import Completion
from router.jobs.execution.reconciler import (
    JobReconciler,
    MakeReducer,
    ReconcilerDependencies,
)
from router.jobs.execution.runner import ItemRunner, Refused
from router.jobs.execution.stalls import Stalls
from router.jobs.input.bodies import Bodies
from router.jobs.input.reading import Reading
from router.jobs.input.room import Room
from router.jobs.input.sources import DatasetFiles
from router.jobs.input.upload_parts import PartedUploads
from router.jobs.input.uploads import Uploads
from router.jobs.metrics import JobsView
from router.jobs.model import ItemState, Job, JobSpec, JobState, ResultPage, StoredFile
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.persistence import PredictorPersistence
from router.jobs.planning.policy import PullPolicy
from router.jobs.planning.protocols import Attempts, ItemCounters, Speeds
from router.jobs.reducers import Partial
from router.jobs.retention import Retention
from router.jobs.spec import spec_text
from router.jobs.store import files, items, jobs
from router.jobs.store.database import JobDatabase, StoreError
from router.logs.events import get_logger
from router.scheduling.idle import SpareCapacity

_SWEEP_SECONDS = 60.0
_LANDING_SECONDS = 1.0

log = get_logger("jobs")


@dataclass(frozen=True, slots=True)
class JobServiceDependencies:
    """The parts that jobs are run with."""

    database: JobDatabase
    uploads: Uploads
    parted: PartedUploads
    room: Room
    bodies: Bodies
    idle: SpareCapacity
    ledger: Ledger
    attempts: Attempts
    policy: PullPolicy
    speeds: Speeds
    predictor: LengthPredictor
    tally: ItemCounters
    source: DatasetFiles
    make_reducer: MakeReducer
    memory: PredictorPersistence
    settings: Callable[[], JobSettings]
    refused: Refused = lambda _who, _running: None


class JobService:
    """Jobs and their files. Methods wait for the database; they raise StoreError."""

    def __init__(self, parts: JobServiceDependencies) -> None:
        self._parts = parts
        self._owner = secrets.token_hex(8)
        self._database = parts.database
        self.uploads = parts.uploads
        self.parted = parts.parted
        self._retention = Retention(
            parts.database,
            parts.uploads,
            lambda: parts.settings().retention_seconds,
            parts.room.measure,
        )
        self._attempts = AttemptsInFlight(self._attempt_parts())
        self._runner = ItemRunner(
            parts.idle,
            parts.ledger,
            parts.policy,
            parts.speeds,
            self._attempts,
            ready=lambda: self._open and parts.database.fault is None,
            refused=parts.refused,
        )
        reading = Reading(parts.database, parts.source, parts.settings)
        reconciled_by = ReconcilerDependencies(
            owner=self._owner,
            database=parts.database,
            uploads=parts.uploads,
            bodies=parts.bodies,
            reading=reading,
            make_reducer=parts.make_reducer,
            slots=self._slots,
            lease_seconds=lambda: parts.settings().lease_seconds,
        )
        closing = Completion(
            parts.database, self._runner.stop_attempts, parts.tally.job_ended
        )
        self._reconciler = JobReconciler(
            reconciled_by, self._runner, self._attempts, closing
        )
        self._stalls = Stalls()
        self._by_state: dict[str, int] = {}
        self._open = False

    def _attempt_parts(self) -> AttemptDependencies:
        parts = self._parts
        return AttemptDependencies(
            owner=self._owner,
            database=parts.database,
            body_of=parts.bodies.of,
            attempts=parts.attempts,
            predictor=parts.predictor,
            tally=parts.tally,
            item_seconds=lambda: parts.settings().item_timeout_seconds,
            speed=parts.ledger.speed,
            wake=lambda: self._runner.wake(),  # noqa: PLW0108 - made later
            ended=lambda active: self._reconciler.ended(active),  # noqa: PLW0108 - same
        )

    def _slots(self) -> int:
        views = self._parts.idle.nodes()
        return sum(self._parts.ledger.usable(view.node.name) for view in views)

    # Running

    def start(self) -> None:
        """Start work as soon as the database answers."""
        self._parts.ledger.listen(lambda *_: self._runner.wake())
        self._parts.memory.load()
        gevent.spawn(self._begin)

    def _begin(self) -> None:
        reported = ""
        while not self._reconciler.stopping:
            try:
                self._database.open()
                if self._database.sqlite:  # whoever had these leases is dead
                    self._database.write(_take_over_all)
                break
            except StoreError as error:
                if str(error) != reported:  # it is tried each second
                    log.warning("job_database_not_open", fault=str(error))
                reported = str(error)
                gevent.sleep(1.0)
        self._open = True
        for work in (self._runner.run, self._reconciler.run, self._sweep):
            gevent.spawn(work)

    def wake(self) -> None:
        self._runner.wake()

    def take_no_more(self) -> None:
        """Start no more items; attempts in flight continue."""
        self._runner.stopping = True
        self._runner.wake()

    def stop(self) -> None:
        """Stop attempts in flight and give every lease back."""
        self.take_no_more()
        self._reconciler.stopping = True
        self._attempts.end_all()
        self._attempts.join(_LANDING_SECONDS)
        self._parts.bodies.close()
        self._parts.memory.save()
        if not self._open:
            return
        try:
            self._database.write(self._give_up)
        except StoreError as error:  # the leases will run out
            log.warning("leases_not_given_back", fault=str(error))
        self._open = False
        self._database.close()

    @property
    def stopping(self) -> bool:
        return self._runner.stopping

    def _give_up(self, connection: Connection) -> None:
        items.give_back_all(connection, self._owner)
        jobs.disown(connection, self._owner)

    def _sweep(self) -> None:
        while not self._reconciler.stopping:
            try:
                self._by_state = self._database.read(jobs.by_state)
                self._retention.sweep()
                self.parted.sweep()
                self._parts.memory.save()
            except (StoreError, OSError, NotFoundError) as error:
                log.warning("files_not_swept", fault=str(error))
            gevent.sleep(_SWEEP_SECONDS)

    # Files

    def add_file(self, upload: StoredFile) -> None:
        self._database.write(lambda c: files.add(c, upload))

    def file(self, file: str) -> StoredFile:
        """Raises NotFoundError."""
        return self._database.read(lambda c: files.get(c, file))

    def files(
        self, page: ResultPage, purpose: str, account: str | None
    ) -> tuple[list[StoredFile], bool]:
        return self._database.read(lambda c: files.listed(c, page, purpose, account))

    def remove_file(self, file: str) -> None:
        """Raises NotFoundError, ConflictError."""
        self._retention.remove_file(file)

    # Jobs

    def create(
        self,
        spec: JobSpec,
        who: Principal,
        *,
        openai: bool,
        upload: StoredFile | None,
    ) -> Job:
        """Create a job, with its file if that came with the request.

        Raises OverloadedError, NotFoundError (no such file), DiskFullError.
        """
        self.uploads.check_room()
        job = Job(
            id=f"batch_{secrets.token_hex(12)}",
            spec=spec,
            state=JobState.VALIDATING,
            created=time.time(),
            openai=openai,
            account=who.owner,
            principal=who.id,
        )
        self._database.write(lambda c: self._add(c, job, upload))
        self._reconciler.wake()
        return job

    def _add(self, connection: Connection, job: Job, upload: StoredFile | None) -> None:
        most = self._parts.settings().max_open_jobs
        if jobs.count_open(connection) >= most:
            text = f"{most} jobs are not over yet, the most there may be"
            raise OverloadedError(text, retry_after_seconds=60)
        if upload is None:
            files.get(connection, job.spec.file)
        else:
            files.add(connection, upload)
        until = job.created + self._parts.settings().lease_seconds
        jobs.add(connection, job, self._owner, until)

    def get(self, job: str) -> tuple[Job, ActiveJob | None]:
        """Return a job, and this router's state of it while it runs."""
        found = self._database.read(lambda c: jobs.get(c, job))
        return self._with_active(found)

    def account_of(self, job: str) -> str:
        """Return a job's owner. Raises NotFoundError."""
        return self._database.read(lambda c: jobs.account_of(c, job))

    def _with_active(self, job: Job) -> tuple[Job, ActiveJob | None]:
        active = None if job.state.over else self._runner.jobs.get(job.id)
        if active is not None and active.job.rows_read > job.rows_read:
            job = replace(job, rows_read=active.job.rows_read)
        return job, active

    def active(self, job: str) -> ActiveJob | None:
        """Return this router's state of a running job, without waiting."""
        return self._runner.jobs.get(job)

    def listed(
        self,
        page: ResultPage,
        states: Collection[JobState],
        *,
        openai_only: bool,
        account: str | None,
    ) -> tuple[list[tuple[Job, ActiveJob | None]], bool]:
        found, more = self._database.read(
            lambda c: jobs.listed(
                c, page, states, openai_only=openai_only, account=account
            )
        )
        return [self._with_active(job) for job in found], more

    def pause(self, job: str, *, paused: bool) -> None:
        """Raises NotFoundError, ConflictError where it is over."""

        def write(connection: Connection) -> None:
            found = jobs.get(connection, job)
            if found.state.over:
                raise ConflictError(f"job {job!r} is {found.state.value}")
            jobs.pause(connection, job, paused=paused)

        self._database.write(write)
        if paused:
            self._changed(job, paused=True)
            return
        active = self._runner.jobs.get(job)
        if active is not None:
            active.begun = False  # from now on it is counted anew
            active.not_before = 0.0
        self._changed(job, paused=False, parked=None)

    def cancel(self, job: str) -> None:
        """Start to cancel a job. Raises NotFoundError, ConflictError if it is over."""
        before = (JobState.VALIDATING, JobState.IN_PROGRESS, JobState.FINALIZING)

        def write(connection: Connection) -> None:
            found = jobs.get(connection, job)
            if found.state in {JobState.CANCELLING, JobState.CANCELLED}:
                return
            now = time.time()
            if not jobs.advance(connection, job, before, JobState.CANCELLING, now):
                raise ConflictError(f"job {job!r} is {found.state.value}")

        self._database.write(write)
        self._changed(job, state=JobState.CANCELLING)

    def _changed(self, job: str, **fields: object) -> None:
        """Apply a change at once; the next sync confirms it."""
        active = self._runner.jobs.get(job)
        if active is not None:
            active.job = replace(active.job, **fields)  # type: ignore[arg-type]
            active.tell()
        self._reconciler.wake()

    def retry(self, job: str) -> None:
        """Run the failed items of a job that is over again."""
        again = (ItemState.FAILED, ItemState.CANCELLED)
        self.uploads.check_room()

        def write(connection: Connection) -> JobSpec:
            found = jobs.get(connection, job)
            if not found.state.over:
                raise ConflictError(f"job {job!r} is {found.state.value}")
            if jobs.being_removed(found):
                raise ConflictError(f"job {job!r} is being deleted")
            if not items.revive(connection, job, again):
                raise ConflictError(f"job {job!r} has no item that could run again")
            if items.needs_file(connection, job):
                self._check_file(connection, found)
            items.drop_merges(connection, job)
            now = time.time()
            seconds = now - found.created + found.spec.seconds
            spec = replace(found.spec, seconds=seconds)
            jobs.reopen(connection, job, now, spec_text(spec))
            return spec

        spec = self._database.write(write)
        active = self._runner.jobs.get(job)
        if active is not None:  # it was not seen yet that it is over
            active.job = replace(active.job, spec=spec)
        self._reconciler.wake()

    def _check_file(self, connection: Connection, job: Job) -> None:
        """Raise ConflictError if the job's file was deleted."""
        try:
            files.get(connection, job.spec.file)
        except NotFoundError:
            raise ConflictError(
                f"job {job.id!r} cannot run again: its file {job.spec.file!r} was"
                " deleted"
            ) from None

    def remove(self, job: str) -> None:
        """Delete a job that is over, with its results. Raises ConflictError."""
        self._retention.remove_job(job)

    def partial(self, job: str) -> Partial | None:
        """Return the partial result of a running job; None if there is none."""
        active = self._runner.jobs.get(job)
        if active is None or active.reduction is None:
            return None
        return active.reduction.partial()

    def reduced(self, job: str) -> Partial:
        """Return the end product of a job that is over."""
        found = self._database.read(lambda c: jobs.reduced(c, job))
        return Partial(found.get("value"), found.get("covers", 0))

    def check_reducer(self, spec: JobSpec) -> None:
        """Raises BadRequestError."""
        try:
            reducers.check(spec.reducer)
        except ReducerError as error:
            raise BadRequestError(str(error)) from error

    @property
    def database(self) -> JobDatabase:
        return self._database

    def view(self) -> JobsView:
        """Summarise the jobs for a scrape; never waits. Counts may be a minute old."""
        active = list(self._runner.jobs.values())
        now = time.time()
        counts = dict(self._by_state)
        for state in [s for s in JobState if not s.over]:
            counts[state.value] = sum(1 for a in active if a.job.state is state)
        attempts = [f for a in active for f in a.in_flight()]
        unsettled = sum(each.waiting + each.leased for a in active for each in a.counts)
        etas = [eta for a in active if (eta := _eta(a)) is not None]
        return JobsView(
            jobs=counts,
            waiting=max(0, unsettled - len(attempts)),
            running=len(attempts),
            nodes=len({f.node for f in attempts}),
            eta=max(etas, default=None),
            oldest=max((now - a.job.created for a in active), default=0.0),
            stalled=self._stalls.look(active, time.monotonic(), now),
            store_up=self._open and self._database.fault is None,
            parked=sum(1 for a in active if a.job.parked),
            kept=self._retention.kept,
        )


def _eta(active: ActiveJob) -> float | None:
    rates = active.rates.per_second(time.monotonic())
    rows = active.counts[0]
    return (rows.total - rows.over) / rates[0] if rates and rates[0] else None


def _take_over_all(connection: Connection) -> None:
    items.reclaim_all(connection)
    jobs.disown(connection)
