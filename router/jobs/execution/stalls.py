"""Measures how long jobs have made no progress, by state; pure.

A job that may not run (paused, parked, outside its window) does not count. Files are
read one at a time, so that rows read of any file are progress for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.jobs.execution.active import ActiveJob
from router.jobs.model import JobState

OPEN = tuple(state for state in JobState if not state.over)


@dataclass(frozen=True, slots=True)
class _Stand:
    """A job's progress, and since when it is unchanged (monotonic seconds)."""

    state: JobState
    progress: int
    since: float


class Stalls:
    """Remembers the progress of each open job."""

    def __init__(self) -> None:
        self._known: dict[str, _Stand] = {}

    def look(
        self, jobs: Iterable[ActiveJob], now: float, wall: float
    ) -> Mapping[JobState, float]:
        """Return the longest time without progress in seconds, by state of open jobs.

        now:  monotonic seconds
        wall: unix seconds, for windows and expiry
        """
        open_jobs = list(jobs)
        rows_read = sum(each.job.rows_read for each in open_jobs if _is_read(each))
        stands = {
            each.job.id: self._stand(each, rows_read, now)
            for each in open_jobs
            if not (each.job.parked or (_runs(each) and each.why_not(wall)))
        }
        self._known = stands
        longest = dict.fromkeys(OPEN, 0.0)
        for stand in stands.values():
            longest[stand.state] = max(longest[stand.state], now - stand.since)
        return longest

    def _stand(self, active: ActiveJob, rows_read: int, now: float) -> _Stand:
        state = active.job.state
        ended = sum(each.over for each in active.counts)
        progress = rows_read if _is_read(active) else ended
        before = self._known.get(active.job.id)
        if before and (before.state, before.progress) == (state, progress):
            return before
        return _Stand(state, progress, now)


def _is_read(active: ActiveJob) -> bool:
    return active.job.state is JobState.VALIDATING


def _runs(active: ActiveJob) -> bool:
    return active.job.state is JobState.IN_PROGRESS
