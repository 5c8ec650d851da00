"""Reads open jobs, their owners and their progress from the database, in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from router.jobs.model import Backlog, Counts, ItemKind, Job, JobSpec, JobState, Tallies
from router.jobs.store import items, jobs, results


@dataclass(frozen=True, slots=True)
class JobStanding:
    """A job's progress."""

    counts: tuple[Counts, Counts]
    backlog: Mapping[tuple[ItemKind, str], Backlog]
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SyncResult:
    """standings: progress of the jobs that were asked for, and of new ones."""

    open: tuple[Job, ...]
    owned: frozenset[str]
    standings: Mapping[str, JobStanding]


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """The router that syncs, the time, and what to count and store.

    now:      unix seconds; until: when its leases then expire
    known:    jobs that need not be counted now
    specs:    known terms of jobs, which need not be read again
    renewed:  leased items whose lease to renew
    costs:    costs of jobs since the last sync
    """

    owner: str
    now: float
    until: float
    known: Collection[str]
    specs: Mapping[str, JobSpec]
    renewed: list[int]
    costs: Mapping[str, Tallies]


def sync(connection: Connection, asked: SyncRequest) -> SyncResult:
    """Renew leases, store costs, take over jobs without an owner, and read all."""
    if asked.renewed:
        items.renew(connection, asked.owner, asked.renewed, asked.until)
    owned = jobs.own(connection, asked.owner, asked.now, asked.until)
    for job, more in asked.costs.items():
        jobs.add_tallies(connection, job, more)
    found = jobs.still_open(connection, asked.specs)
    started = [job.id for job in found if job.state is not JobState.VALIDATING]
    if started:
        items.reclaim(connection, started, asked.now)
    fresh = [job for job in started if job not in asked.known]
    standings = {job: standing(connection, job) for job in fresh}
    return SyncResult(tuple(found), frozenset(owned), standings)


def standing(connection: Connection, job: str) -> JobStanding:
    return JobStanding(
        items.counts(connection, job),
        items.backlogs(connection, job),
        results.tokens(connection, job),
    )
