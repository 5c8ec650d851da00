"""A job under way as this router sees it, and what of it is in flight."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from router.cancellation import Cancellation
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
from router.scheduling.queue import Assignment

_MOST_SEEN = 512
_SHORT_PROMPTS = 4  # tokens of a prompt for each of the answer: read so much quicker


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt.

    since:    monotonic seconds
    resident: whether the model was in the node's memory then
    lost:     another one was first
    talk:     with its node, once it has begun
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
        """Return the answer in the making; None where none is kept."""
        return self.talk.draft if self.talk else None

    def running(self) -> Running:
        return Running(self.held.pending, self.node, self.since, self.copy)

    def tell_times(self, timings: Timings) -> None:
        """Let a reply of `/v1` teach its node's speed: it tells tokens, but no times.

        Only where nearly all of its time went into the answer: the model was loaded,
        and the prompt short beside it.
        """
        short = timings.prompt_tokens <= _SHORT_PROMPTS * timings.generated_tokens
        if self.resident and short and not timings.generate_seconds:
            self.assignment.lease.decoding_since = self.assignment.lease.taken_at

    def stop(self, outcome: Outcome) -> None:
        """End it by closing its connection, which frees the slot at once."""
        self.cancellation.stop(outcome)


@dataclass(slots=True, eq=False)
class ActiveJob:
    """Holds what this router knows of one running job.

    backlog:  what waits in the database, by kind and model
    counts:   rows and merges by state, kept up to date between two looks
    settling: its items are being called off
    begun:    this router's work on it was noted
    at_risk:  it got no further since then: if the router dies now, that is counted
    not_before: unix seconds; a router that died while it ran this job waits a while
                before the job is begun again, so that others get on
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
        """Say why none of its items may begin now; None where they may."""
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
        """Say why nothing of it runs just now; None where something does."""
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
        """Return the models of what is in hand and in flight."""
        found = set(self.leased.models())
        return found | {f.held.item.model for f in self.in_flight()}

    def may_use(self, node: str) -> bool:
        """Whether its quota of nodes allows this one."""
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
        """Whether every item has its result, as far as is counted."""
        rows, merges = self.counts
        return not (rows.waiting or rows.leased or merges.waiting or merges.leased)

    def tally(self, **more: int) -> None:
        self.unsaved += Tallies(**more)

    def take_costs(self) -> Tallies:
        """Take what is to be written down; `put_back` it where that fails."""
        costs, self.unsaved = self.unsaved, Tallies()
        return costs

    def put_back(self, costs: Tallies) -> None:
        self.unsaved += costs

    def tell(self) -> None:
        """Let whoever watches the job see that it has changed."""
        self.version += 1


def parked_words(job: Job) -> str:
    """Say why a job is parked, and how it goes on."""
    return (
        f"parked: {job.parked}; see the router's log, then"
        f" `inferops jobs resume {job.id}` (POST /v1/jobs/{job.id}/resume)"
    )


class LeasedBacklog:
    """What waits in all of some jobs at one moment; a `protocols.Waiting`."""

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
