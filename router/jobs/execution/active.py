"""A running job as this router sees it, with its attempts in flight."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from router.jobs.execution.leased import LeasedItem, LeasedItems
from router.jobs.execution.partial_answers import Exchange, PartialAnswer
from router.jobs.execution.rates import JobThroughput
from router.jobs.execution.reduction import Reduction
from router.jobs.model import (
    Backlog,
    Counts,
    ItemKind,
    ItemState,
    Job,
    JobState,
    Pending,
    Running,
    Tallies,
)
from router.jobs.window import is_open, shown
from router.model import Outcome, Timings
from router.runtime.cancellation import Cancellation
from router.scheduling.queue import Assignment

_MOST_SEEN = 512
_SHORT_PROMPTS = 4  # prompt tokens per answer token: prompts are read much faster


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt at an item.

    since:    monotonic seconds when it started
    resident: whether the model was in the node's memory then
    copy:     whether it is the item's second attempt
    lost:     whether another attempt finished first
    talk:     the exchange with its node, once it has begun
    """

    held: LeasedItem
    assignment: Assignment
    cancellation: Cancellation
    since: float
    resident: bool = False
    copy: bool = False
    lost: bool = False
    talk: Exchange | None = None

    @property
    def node(self) -> str:
        return self.assignment.node.name

    @property
    def draft(self) -> PartialAnswer | None:
        """Return the partial answer; None if none is kept."""
        return self.talk.draft if self.talk else None

    def running(self) -> Running:
        return Running(self.held.pending, self.node, self.since, self.copy)

    def tell_times(self, timings: Timings) -> None:
        """Let the ledger learn a speed from a reply of `/v1`, which has no times.

        Only if nearly all of its time went into the answer: the model was loaded and
        the prompt short.
        """
        short = timings.prompt_tokens <= _SHORT_PROMPTS * timings.generated_tokens
        if self.resident and short and not timings.generate_seconds:
            self.assignment.lease.decoding_since = self.assignment.lease.taken_at

    def stop(self, outcome: Outcome) -> None:
        """Stop it by closing its connection, which frees the slot at once."""
        self.cancellation.stop(outcome)


@dataclass(slots=True, eq=False)
class ActiveJob:
    """This router's state of one running job.

    backlog:    items that wait in the database, by kind and model
    counts:     rows and merges by state, kept up to date between two syncs
    settling:   its waiting items are being cancelled
    begun:      the start of this router's work on it is stored
    at_risk:    no progress since then: if the router dies now, that is counted
    not_before: unix seconds; after a death of the router the job waits a while, so that
                other jobs run first
    version:    grows with each change, for those who watch the job
    """

    job: Job
    owned: bool = False
    leased: LeasedItems = field(default_factory=LeasedItems)
    backlog: dict[tuple[ItemKind, str], Backlog] = field(default_factory=dict)
    counts: tuple[Counts, Counts] = (Counts(), Counts())
    counted_at: float = float("-inf")
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    rates: JobThroughput = field(default_factory=JobThroughput)
    tokens: tuple[int, int] = (0, 0)
    unsaved: Tallies = field(default_factory=Tallies)
    reduction: Reduction | None = None
    settling: bool = False
    absent_since: dict[str, float] = field(default_factory=dict)
    why_idle: str | None = None
    begun: bool = False
    at_risk: bool = False
    not_before: float = 0.0
    version: int = 0

    def why_not(self, now: float) -> str | None:
        """Return why none of its items may start now; None if they may."""
        job = self.job
        if job.state is not JobState.IN_PROGRESS:
            return f"it is {job.state.value.replace('_', ' ')}"
        if self.settling or now >= job.expires:
            return "its completion window is over"
        if job.paused:
            return parked_words(job) if job.parked else "paused"
        if now < self.not_before:
            return "waits a while: the router died while it ran this job"
        return self._outside(now)

    def _outside(self, now: float) -> str | None:
        window = self.job.spec.window
        if window is None or is_open(window, now):
            return None
        return f"outside its window {shown(window)} {window.zone}"

    def idle(self) -> str | None:
        """Return why nothing of it runs; None if something does."""
        if self.attempts:
            return None
        return self.why_not(time.time()) or self.why_idle

    def in_flight(self) -> list[Attempt]:
        return [attempt for some in self.attempts.values() for attempt in some]

    def nodes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for attempt in self.in_flight():
            found[attempt.node] = found.get(attempt.node, 0) + 1
        return found

    def models(self) -> set[str]:
        """Return the models of its leased items and attempts."""
        found = set(self.leased.models())
        return found | {f.held.item.model for f in self.in_flight()}

    def may_use(self, node: str) -> bool:
        """Say whether its quota of nodes allows this one."""
        quota = self.job.spec.nodes
        if quota is None:
            return True
        used = self.nodes()
        return node in used or len(used) < quota

    def move(
        self, kind: ItemKind, before: ItemState, after: ItemState, count: int = 1
    ) -> None:
        """Count items in another state."""
        at = 0 if kind is ItemKind.ROW else 1
        counts = self.counts[at]
        moved = replace(
            counts,
            **{
                before.value: max(0, getattr(counts, before.value) - count),
                after.value: getattr(counts, after.value) + count,
            },
        )
        self.counts = (moved, self.counts[1]) if at == 0 else (self.counts[0], moved)
        self.tell()

    @property
    def settled(self) -> bool:
        """Whether every counted item has its result."""
        rows, merges = self.counts
        return not (rows.waiting or rows.leased or merges.waiting or merges.leased)

    def tally(self, **more: int) -> None:
        self.unsaved += Tallies(**more)

    def take_costs(self) -> Tallies:
        """Take the costs that are not stored yet; `put_back` them if storing fails."""
        costs, self.unsaved = self.unsaved, Tallies()
        return costs

    def put_back(self, costs: Tallies) -> None:
        self.unsaved += costs

    def tell(self) -> None:
        """Note a change for those who watch the job."""
        self.version += 1


def parked_words(job: Job) -> str:
    """Return why a job is parked, and how to resume it."""
    return (
        f"parked: {job.parked}; see the router's log, then"
        f" `inferops jobs resume {job.id}` (POST /v1/jobs/{job.id}/resume)"
    )


class LeasedBacklog:
    """The waiting items of several jobs at one time; a `protocols.Waiting`."""

    def __init__(self, jobs: Sequence[ActiveJob], now: float) -> None:
        self._jobs = jobs
        self._now = now
        self._models = self._sum()
        self._heaviest: dict[str, list[Pending]] = {}

    def models(self) -> Mapping[str, Backlog]:
        return self._models

    def _sum(self) -> dict[str, Backlog]:
        found: dict[str, Backlog] = {}
        for active in self._jobs:
            kept = active.leased.backlogs().items()
            stored = ((model, each) for (_, model), each in active.backlog.items())
            for model, more in chain(kept, stored):
                sums = found.get(model, Backlog(0, 0.0))
                found[model] = Backlog(
                    sums.items + more.items, sums.weight + more.weight
                )
        return found

    def heaviest(self, model: str) -> Sequence[Pending]:
        found = self._heaviest.get(model)
        if found is None:
            some = (active.leased.ready(model, self._now) for active in self._jobs)
            found = list(islice(chain.from_iterable(some), _MOST_SEEN))
            self._heaviest[model] = found
        return found
