"""Reconciles the jobs of this router with the database, once a second.

It renews leases, leases more items, reads files, feeds reducers and ends jobs.
Everything in here may wait for the database, in greenlets of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import gevent
from gevent.event import Event

from router.jobs.execution.active import ActiveJob
from router.jobs.execution.attempts import AttemptsInFlight
from router.jobs.execution.completion import Completion
from router.jobs.execution.leased import LeasedItem, leased_item
from router.jobs.execution.reduction import Reduction
from router.jobs.execution.runner import ItemRunner
from router.jobs.execution.sync import SyncRequest, SyncResult, sync
from router.jobs.input.bodies import Bodies
from router.jobs.input.reading import Reading
from router.jobs.input.uploads import Uploads
from router.jobs.model import (
    EXPIRED,
    Backlog,
    Item,
    ItemFault,
    ItemKind,
    ItemState,
    Job,
    JobSpec,
    JobState,
    Tallies,
)
from router.jobs.reducers import Reducer, opens, samples
from router.jobs.store import items, jobs
from router.jobs.store.database import JobDatabase, StoreError
from router.logs.events import get_logger

_SYNC_SECONDS = 1.0
# Counting a job's items takes a tenth of a microsecond for each.
_ITEMS_PER_COUNT_SECOND = 50_000
_LONGEST_UNCOUNTED_SECONDS = 10.0
_LEAST_IN_HAND = 32
_MOST_IN_HAND = 512
_PER_SLOT = 8
# Each line may name another model: items of so many are leased at one time.
_MOST_PLACES = 64
# Pause after a death of the router, by deaths in a row; then the job is parked.
_PAUSES_SECONDS = {1: 2.0, 2: 15.0}
# A model that no node has: somebody may be about to pull it.
_ABSENT_SECONDS = 30.0
# Results that arrive together are fed together.
_GATHER_SECONDS = 0.05

log = get_logger("jobs")

# Makes the reducer of a job with so many items; None if results are only collected.
MakeReducer = Callable[[JobSpec, int], Reducer | None]


@dataclass(frozen=True, slots=True)
class ReconcilerDependencies:
    """The parts of the reconciler; `slots` returns the fleet's usable slots."""

    owner: str
    database: JobDatabase
    uploads: Uploads
    bodies: Bodies
    reading: Reading
    make_reducer: MakeReducer
    slots: Callable[[], int]
    lease_seconds: Callable[[], float]


class JobReconciler:
    """Reconciles this router's jobs with the database, once a second."""

    def __init__(
        self,
        parts: ReconcilerDependencies,
        runner: ItemRunner,
        attempts: AttemptsInFlight,
        closing: Completion,
    ) -> None:
        self._parts = parts
        self._runner = runner
        self._attempts = attempts
        self._closing = closing
        self._event = Event()
        self._reading: gevent.Greenlet[..., None] | None = None
        self._reading_job = ""
        self._busy: dict[str, gevent.Greenlet[..., None]] = {}
        self._renewed_at = float("-inf")
        self.stopping = False

    def wake(self) -> None:
        """Reconcile now instead of within a second."""
        self._event.set()

    def run(self) -> None:
        while not self.stopping:
            try:
                self.look()
            except StoreError as error:
                log.warning("jobs_not_seen", fault=str(error))
            except Exception:
                log.exception("keeping_broke")
            self._event.wait(_SYNC_SECONDS)
            self._event.clear()

    def look(self) -> None:
        """Reconcile once. Raises StoreError."""
        now = time.monotonic()
        costs = self._take_costs()
        question = self._question(now, costs)
        try:
            seen = self._parts.database.write(lambda c: sync(c, question))
        except StoreError:
            for job, more in costs.items():
                self._runner.jobs[job].put_back(more)
            raise
        if question.renewed:
            self._renewed_at = now
        self._take_over(seen, now)
        for active in list(self._runner.jobs.values()):
            self._tend(active)
        self._runner.wake()

    def _take_costs(self) -> dict[str, Tallies]:
        return {
            name: active.take_costs()
            for name, active in self._runner.jobs.items()
            if active.unsaved != Tallies()
        }

    def _question(self, now: float, costs: dict[str, Tallies]) -> SyncRequest:
        parts = self._parts
        seconds = parts.lease_seconds()
        at = time.time()
        renew = now - self._renewed_at >= seconds / 4
        active = self._runner.jobs.values()
        leased = [h.item.id for job in active for h in job.leased]
        leased += [f.held.item.id for job in active for f in job.in_flight()]
        return SyncRequest(
            owner=parts.owner,
            now=at,
            until=at + seconds,
            known=[job.job.id for job in active if not _due(job, now)],
            specs={job.job.id: job.job.spec for job in active},
            renewed=leased if renew else [],
            costs=costs,
        )

    def _take_over(self, seen: SyncResult, now: float) -> None:
        known = self._runner.jobs
        for job in seen.open:
            active = known.get(job.id) or known.setdefault(job.id, _new(job))
            if active.job != job:
                active.job = job
                active.tell()
            active.owned = job.id in seen.owned
            standing = seen.standings.get(job.id)
            if standing:
                if active.counts != standing.counts:
                    active.tell()
                active.counts = standing.counts
                active.backlog = dict(standing.backlog)
                active.tokens = standing.tokens
                active.counted_at = now
        for name in set(known) - {job.id for job in seen.open}:
            self._let_go(known.pop(name))

    def _let_go(self, active: ActiveJob) -> None:
        """Forget a job that is over or deleted, here or by another router."""
        self._runner.stop_attempts(active)
        active.leased.clear()
        active.tell()

    # One job

    def _tend(self, active: ActiveJob) -> None:
        job = active.job
        if job.state is JobState.VALIDATING:
            self._read(active)
            return
        if active.why_not(time.time()):
            self._release(active)
        else:
            self._forgive(active)
            self._refill(active)
        if active.owned:
            self._start(f"reduce {job.id}", lambda: self._reduce(active))
            if active.reduction or not _reduces(job) or job.parked:
                self._start(f"close {job.id}", lambda: self._close(active))

    def _start(self, name: str, work: Callable[[], None]) -> None:
        """Run it in a greenlet of its own, unless it is already running."""
        running = self._busy.get(name)
        if running is None or running.dead:
            self._busy[name] = gevent.spawn(self._guarded, name, work)
            self._busy[name].link(lambda _: self._busy.pop(name, None))

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except StoreError as error:
            log.warning("job_not_tended", what=name, fault=str(error))
        except Exception:
            log.exception("tending_broke", what=name)

    def _read(self, active: ActiveJob) -> None:
        """Read the job's file; one file at a time, and none that another router has."""
        parts, job = self._parts, active.job
        if self._reading is not None and not self._reading.dead:
            if self._reading_job != job.id:
                active.why_idle = "another job's file is being read"
            return
        late = time.time() >= job.expires
        if not active.owned or (job.paused and not late):
            return
        if time.time() < active.not_before:
            return
        # If several routers share the jobs, another one may have the file.
        waits = not parts.database.sqlite and time.time() < job.expires
        if late and job.paused:
            fault = ItemFault(EXPIRED, "its completion window is over")
            work = partial(self._fail_now, job, fault)
        elif parts.uploads.here(job.spec.file):
            work = partial(self._read_now, active)
        elif waits:
            active.why_idle = "the router that has its file has not read it yet"
            return
        else:
            fault = ItemFault("file_missing", f"file {job.spec.file!r} is not here")
            work = partial(self._fail_now, job, fault)
        active.why_idle = None
        self._reading_job = job.id
        self._reading = gevent.spawn(self._guarded, f"read {job.id}", work)

    def _fail_now(self, job: Job, fault: ItemFault) -> None:
        self._parts.reading.fail(job, fault)
        self._event.set()

    def _read_now(self, active: ActiveJob) -> None:
        if not self._begin(active):
            return
        job = active.job
        path = self._parts.uploads.path(job.spec.file)

        def reported(rows: int) -> None:
            active.job = replace(active.job, rows_read=rows)
            active.tell()

        self._parts.reading.read(job, path, reported)
        active.begun = False  # it got further: running its items is counted anew
        self._event.set()

    def _begin(self, active: ActiveJob) -> bool:
        """Store that work on a job starts; return if it may. Raises StoreError."""
        if active.begun or active.job.parked:
            return active.job.parked is None
        if time.time() < active.not_before:
            return False
        why = self._parts.database.write(lambda c: jobs.begin(c, active.job.id))
        if why:
            active.job = replace(active.job, paused=True, parked=why)
            active.tell()
            log.error("job_parked", job=active.job.id, why=why)
            return False
        active.begun = active.at_risk = True
        return True

    def _release(self, active: ActiveJob) -> None:
        ids = active.leased.clear()
        if ids:
            owner = self._parts.owner
            self._parts.database.write(lambda c: items.give_back(c, owner, ids))
            active.counted_at = float("-inf")

    def _forgive(self, active: ActiveJob) -> None:
        for each in active.leased:
            avoid = each.pending.avoid
            if avoid and not self._runner.elsewhere(each.item.model, avoid):
                each.forgive()
        for model in active.leased.models():
            self._give_up(active, model)

    def _give_up(self, active: ActiveJob, model: str) -> None:
        """Fail items whose model no node has had for a while."""
        now = time.monotonic()
        if not self._runner.absent(model):
            active.absent_since.pop(model, None)
            return
        if now - active.absent_since.setdefault(model, now) < _ABSENT_SECONDS:
            return
        fault = ItemFault("model_not_found", f"no node has model {model!r}")
        for each in active.leased:
            if each.item.model == model and active.leased.take(each.item.id):
                self._attempts.fail(active, each, fault)

    def ended(self, active: ActiveJob) -> None:
        """React to a result: lease more items, reduce it, or end the job."""
        if not active.why_not(time.time()):
            self._refill(active)
        if active.owned and _reduces(active.job):
            self._start(f"reduce {active.job.id}", lambda: self._reduce(active))
        if active.settled:
            self.wake()

    def _refill(self, active: ActiveJob) -> None:
        want = max(_LEAST_IN_HAND, self._parts.slots() * _PER_SLOT)
        share = max(1, min(want, _MOST_IN_HAND) // max(1, len(active.backlog)))
        short = {
            place: share - active.leased.count(*place)
            for place, waiting in islice(active.backlog.items(), _MOST_PLACES)
            if waiting.items and active.leased.count(*place) <= share // 2
        }
        if short:
            self._start(f"refill {active.job.id}", lambda: self._lease(active, short))

    def _lease(self, active: ActiveJob, short: dict[tuple[ItemKind, str], int]) -> None:
        if not self._begin(active):
            return
        parts = self._parts
        job, given = active.job.id, active.job.spec.reducer
        until = time.time() + parts.lease_seconds()
        found: list[LeasedItem] = []
        for (kind, model), count in short.items():
            where = (job, kind, model)
            some = parts.database.write(
                partial(
                    items.lease,
                    owner=parts.owner,
                    until=until,
                    where=where,
                    limit=count,
                )
            )
            _lower(active, (kind, model), some, count)
            active.move(kind, ItemState.WAITING, ItemState.LEASED, len(some))
            found += [leased_item(item, opening=opens(given, item)) for item in some]
        parts.bodies.prepare(active.job, (each.item for each in found))
        active.leased.add(h for h in found if h.item.id not in active.attempts)
        self._runner.wake()

    # Reducing and closing

    def _reduce(self, active: ActiveJob) -> None:
        """Feed new results to the reducer. Raises StoreError."""
        job = active.job
        if not _reduces(job) or job.rows is None:
            return
        gevent.sleep(_GATHER_SECONDS)
        if not self._begin(active):
            return
        if active.reduction is None:
            active.reduction = self._new_reduction(job)
            if active.reduction is None:
                return
        settled = active.reduction.feed()
        if settled:
            self._runner.settle(active, settled, samples(job.spec.reducer))
        if active.reduction.asked:
            active.reduction.asked = False
            active.counted_at = float("-inf")
            self._event.set()

    def _new_reduction(self, job: Job) -> Reduction | None:
        reducer = self._parts.make_reducer(job.spec, job.rows or 0)
        if reducer is None:
            return None
        return Reduction(job.id, job.spec, reducer, self._parts.database)

    def _close(self, active: ActiveJob) -> None:
        """Move the job to its next state if it is due. Raises StoreError."""
        if self._closing.move_on(active):
            self._event.set()


def _reduces(job: Job) -> bool:
    return job.spec.reducer.get("kind", "map") != "map"


def _new(job: Job) -> ActiveJob:
    """Make the state of a job that is seen for the first time."""
    pause = _PAUSES_SECONDS.get(job.starts, 0.0)
    return ActiveJob(job, not_before=time.time() + pause if pause else 0.0)


def _due(active: ActiveJob, now: float) -> bool:
    """Say whether a job's items should be counted again; large ones less often."""
    rows, _ = active.counts
    seconds = rows.total / _ITEMS_PER_COUNT_SECOND
    if not active.attempts and not len(active.leased):
        seconds = 0.0
    return now - active.counted_at >= min(seconds, _LONGEST_UNCOUNTED_SECONDS)


def _lower(
    active: ActiveJob, place: tuple[ItemKind, str], some: list[Item], asked: int
) -> None:
    """Subtract leased items from the backlog, which is counted only now and then."""
    before = active.backlog.get(place)
    if before is None:
        return
    left = max(0, before.items - len(some)) if len(some) == asked else 0
    weight = max(0.0, before.weight - sum(item.weight for item in some))
    active.backlog[place] = Backlog(left, weight if left else 0.0)
