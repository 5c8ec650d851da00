"""Gives idle slots to items; jobs have the lowest priority for slots.

It runs whenever a slot, a hold, a snapshot or a job has changed. It does not wait
between finding a slot and taking it, so that no slot is taken twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import inf

import gevent
from gevent.event import Event

from router.capacity.ledger import Ledger
from router.jobs.execution.active import ActiveJob, LeasedBacklog
from router.jobs.execution.attempts import AttemptsInFlight
from router.jobs.execution.leased import LeasedItem
from router.jobs.execution.pace import StartThrottle
from router.jobs.model import (
    Choice,
    FreeSlot,
    ItemKind,
    Preemption,
    StartCopy,
    StartItem,
)
from router.jobs.planning.in_flight import InFlightItems
from router.jobs.planning.policy import PullPolicy
from router.jobs.planning.protocols import Speeds
from router.jobs.planning.view import PlanningContext
from router.logs.events import get_logger
from router.model import Outcome
from router.scheduling.idle import SpareCapacity
from router.scheduling.pipeline import BUSY
from router.snapshot import NodeView

# Takes a principal and a function that counts its items in flight; returns why no
# other item of its jobs may start, None if one may.
Refused = Callable[[str, Callable[[str], int]], str | None]
_TICK_SECONDS = 0.5

log = get_logger("jobs")


class ItemRunner:
    """Gives idle slots to items; `jobs` is maintained by the reconciler."""

    def __init__(
        self,
        idle: SpareCapacity,
        ledger: Ledger,
        policy: PullPolicy,
        speeds: Speeds,
        attempts: AttemptsInFlight,
        *,
        ready: Callable[[], bool],
        refused: Refused = lambda _who, _running: None,
    ) -> None:
        self._refused = refused
        self._idle = idle
        self._ledger = ledger
        self._policy = policy
        self._speeds = speeds
        self._in_flight = InFlightItems()
        self._attempts = attempts
        self._ready = ready
        self._event = Event()
        self._pace = StartThrottle()
        self.jobs: dict[str, ActiveJob] = {}
        self.stopping = False

    def wake(self) -> None:
        """Look for idle slots soon; never waits."""
        self._event.set()

    def run(self) -> None:
        """Run until stopped."""
        while not self.stopping:
            self._event.wait(_TICK_SECONDS)
            self._event.clear()
            if self.jobs and self._ready():
                self._round()

    def _round(self) -> None:
        try:
            if self.serve(self._pace.most) >= self._pace.most:
                self._event.set()  # there may be more to begin
        except Exception:
            log.exception("serving_broke")
        due = time.monotonic() + self._pace.rest
        gevent.sleep(self._pace.rest)
        self._pace.woke(time.monotonic() - due, alone=not self._people())

    def _people(self) -> int:
        """Count the slots of interactive requests."""
        ours = sum(len(job.in_flight()) for job in self.jobs.values())
        running = sum(self._ledger.in_flight(v.node.name) for v in self._idle.all())
        return running - ours

    def serve(self, most: int) -> int:
        """Start items on slots that no interactive request needs; return how many.

        most: the largest number to start
        """
        now = time.time()
        running = [job for job in self._oldest_first() if not job.why_not(now)]
        with_items = [job for job in running if len(job.leased) or job.attempts]
        for job in running:
            job.why_idle = None
        allowed = [job for job in with_items if not self._limited(job)]
        if not allowed:
            return 0
        begun = self._fill(allowed, most)
        for job in allowed:
            if not job.attempts:
                job.why_idle = self._why_idle(job)
        return begun

    def _limited(self, job: ActiveJob) -> bool:
        """Say whether the job's principal has reached a limit."""
        who = job.job.principal
        why = self._refused(who, self._running_of) if who else None
        if why:
            job.why_idle = why
        return why is not None

    def _running_of(self, who: str) -> int:
        return sum(
            len(j.attempts) for j in self.jobs.values() if j.job.principal == who
        )

    def _oldest_first(self) -> Iterable[ActiveJob]:
        return sorted(self.jobs.values(), key=lambda a: (a.job.created, a.job.id))

    def _fill(self, jobs: list[ActiveJob], most: int) -> int:
        """Start what the policy chooses; return how many items."""
        # Until speeds are known, the score tells which nodes are likely to be fast.
        best = sorted(self._idle.nodes(), key=lambda view: -view.score.value)
        views = {view.node.name: view for view in best}
        frees = {name: self._free(view, jobs) for name, view in views.items()}
        for begun in range(most):
            free_now = [free for free in frees.values() if free]
            jobs = [job for job in jobs if not self._limited(job)]
            chosen = self._choose(free_now, jobs)
            if chosen is None:
                return begun
            free, choice = chosen
            view = views[free.node]
            if not self._begin(view, _allowed(jobs, free), choice):
                return begun
            frees[free.node] = self._free(view, jobs)
        return most

    def _choose(
        self, frees: list[FreeSlot], jobs: list[ActiveJob]
    ) -> tuple[FreeSlot, Choice] | None:
        self._in_flight.follow(f.running() for job in jobs for f in job.in_flight())
        alike = not any(free.people for free in frees)
        if alike and all(job.job.spec.nodes is None for job in jobs):
            return self._policy.assign(frees, self._context(jobs))
        for free in frees:  # with a quota, not every node may run the same jobs
            context = self._context(_allowed(jobs, free))
            chosen = self._policy.assign([free], context)
            if chosen is not None:
                return chosen
        return None

    def _context(self, jobs: list[ActiveJob]) -> PlanningContext:
        now = time.monotonic()
        return PlanningContext(
            LeasedBacklog(jobs, now), self._in_flight, self._speeds, now
        )

    def _free(self, view: NodeView, jobs: list[ActiveJob]) -> FreeSlot | None:
        """Describe the node's free slot; None if it has none for any waiting model."""
        name = view.node.name
        if view.present is None:
            return None
        wanted = {model for job in jobs for model in job.models()}
        models = {
            model
            for model in wanted
            if model in view.present and self._idle.room(name, model)
        }
        if not models:
            return None
        in_flight = self._ledger.in_flight(name)
        ours = sum(job.nodes().get(name, 0) for job in self.jobs.values())
        return FreeSlot(
            node=name,
            in_flight=in_flight,
            people=max(0, in_flight - ours),
            resident=frozenset(view.resident or ()),
            models=frozenset(models),
            quiet=self._quiet(name, jobs),
        )

    def _quiet(self, node: str, jobs: list[ActiveJob]) -> float:
        """Return the seconds since an interactive request, if one preempts items."""
        ways = {job.job.spec.preemption for job in jobs}
        return self._ledger.quiet_seconds(node) if Preemption.IMMEDIATE in ways else inf

    def _begin(self, view: NodeView, jobs: list[ActiveJob], choice: Choice) -> bool:
        for job in jobs:
            if isinstance(choice, StartCopy):
                attempts = job.attempts.get(choice.item)
                held = attempts[0].held if attempts and len(attempts) == 1 else None
            else:
                held = job.leased.take(choice.item)
            if held is None:
                continue
            assignment = self._idle.take(view, held.item.model)
            if assignment is None:
                if isinstance(choice, StartItem):
                    job.leased.add([held])
                return False
            self._attempts.begin(
                job, held, assignment, copy=isinstance(choice, StartCopy)
            )
            return True
        log.warning("policy_chose_what_is_not_there", item=choice.item)
        return False

    # Words

    def _why_idle(self, job: ActiveJob) -> str | None:
        """Return why none of the job's items runs although they may."""
        if self._idle.wanted:
            return "people are using every slot"
        for model in job.leased.models():
            decision = self._idle.decision(model)
            if decision.picked:
                return None
            if decision.busy:
                return "every slot is in use"
            reported = "; ".join(f"{n}: {why}" for n, why in decision.rejected.items())
            return f"no node may take model {model!r}: {reported or 'there is none'}"
        return None

    def absent(self, model: str) -> bool:
        """Say whether no node has this model, and every node was asked."""
        reasons = self._idle.decision(model).rejected
        return bool(reasons) and all(r.startswith("model ") for r in reasons.values())

    def elsewhere(self, model: str, avoid: frozenset[str]) -> bool:
        """Say whether a node outside `avoid` could run the model, now or soon."""
        decision = self._idle.decision(model)
        names = {candidate.name for candidate in decision.candidates}
        names |= {n for n, why in decision.rejected.items() if why == BUSY}
        return bool(names - avoid)

    def stop_attempts(self, job: ActiveJob) -> None:
        """Stop a job's attempts in flight; the items wait again."""
        for attempt in job.in_flight():
            attempt.stop(Outcome.CLIENT_GONE)

    def settle(self, job: ActiveJob, groups: frozenset[int], samples: int) -> None:
        """Drop samples that are no longer needed, in flight or leased."""
        for attempt in job.in_flight():
            if _of(attempt.held, groups, samples):
                attempt.lost = True
                attempt.stop(Outcome.REVOKED)
        for held in job.leased:
            if _of(held, groups, samples):
                job.leased.take(held.item.id)


def _allowed(jobs: list[ActiveJob], free: FreeSlot) -> list[ActiveJob]:
    """Leave out jobs whose quota is full, or that avoid interactive requests."""
    return [
        job
        for job in jobs
        if job.may_use(free.node)
        and (not free.people or job.job.spec.preemption is Preemption.AFTER_ITEM)
    ]


def _of(held: LeasedItem, groups: frozenset[int], samples: int) -> bool:
    item = held.item
    return item.kind is ItemKind.ROW and item.index // samples in groups
