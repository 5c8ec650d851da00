"""When a job that might go on does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.jobs.execution.active import ActiveJob
from router.jobs.execution.stalls import Stalls
from router.jobs.model import Counts, JobState, Span, TimeWindow
from tests.router.jobs.stage import an_active

WALL = 1_000.0  # 0:16 UTC
CLOSED = TimeWindow((Span(tuple(range(7)), 60, 120),))
RUNNING, READ = JobState.IN_PROGRESS, JobState.VALIDATING


def a_job(name: str = "a", state: JobState = RUNNING, **fields) -> ActiveJob:
    active = an_active(created=WALL)
    active.job = replace(active.job, id=name, state=state, **fields)
    return active


def test_a_job_whose_items_end_does_not_stand_still() -> None:
    """Its time starts over with each end, of rows and of merges."""
    stalls, job = Stalls(), a_job()
    assert stalls.look([job], 100, WALL)[RUNNING] == 0
    assert stalls.look([job], 150, WALL)[RUNNING] == 50
    job.counts = (Counts(done=1), Counts())
    assert stalls.look([job], 151, WALL)[RUNNING] == 0
    job.counts = (Counts(done=1), Counts(failed=1))
    assert stalls.look([job], 160, WALL)[RUNNING] == 0
    assert stalls.look([job], 170, WALL)[RUNNING] == 10


def test_the_one_that_stands_longest_counts() -> None:
    """One job that goes on must not hide another that does not."""
    stalls, slow, quick = Stalls(), a_job("slow"), a_job("quick")
    stalls.look([slow, quick], 0, WALL)
    quick.counts = (Counts(done=5), Counts())
    assert stalls.look([slow, quick], 60, WALL)[RUNNING] == 60
    assert stalls.look([quick], 70, WALL)[RUNNING] == 10


@pytest.mark.parametrize(
    "held",
    [
        pytest.param({"paused": True}, id="paused"),
        pytest.param({"window": CLOSED}, id="outside of its window"),
    ],
)
def test_a_job_that_may_not_run_does_not_stand_still(held) -> None:
    """Nor does it at once when it may run again."""
    stalls, job = Stalls(), a_job()
    window = held.pop("window", None)
    spec = replace(job.job.spec, window=window)
    free, job.job = job.job, replace(job.job, spec=spec, **held)
    for now in (0, 5_000):
        assert stalls.look([job], now, WALL)[RUNNING] == 0
    job.job = free
    assert stalls.look([job], 9_000, WALL)[RUNNING] == 0
    assert stalls.look([job], 9_030, WALL)[RUNNING] == 30


@pytest.mark.parametrize("state", [READ, RUNNING])
def test_a_parked_job_does_not_stand_still(state) -> None:
    """It waits for a person, in whatever state it was."""
    stalls, job = Stalls(), a_job(state=state, paused=True, parked="why")
    for now in (0, 5_000):
        assert stalls.look([job], now, WALL)[state] == 0


def test_files_are_read_one_after_the_other() -> None:
    """Rows of one are progress for those that wait for their turn."""
    stalls, first, second = Stalls(), a_job("a", READ), a_job("b", READ)
    stalls.look([first, second], 0, WALL)
    assert stalls.look([first, second], 40, WALL)[READ] == 40
    first.job = replace(first.job, rows_read=1)
    assert stalls.look([first, second], 50, WALL)[READ] == 0


def test_a_new_state_is_progress() -> None:
    """The time in each state counts for itself; every open state is reported."""
    stalls, job = Stalls(), a_job()
    stalls.look([job], 0, WALL)
    job.job = replace(job.job, state=JobState.FINALIZING)
    stalls.look([job], 100, WALL)
    assert stalls.look([job], 130, WALL) == {
        JobState.VALIDATING: 0,
        JobState.IN_PROGRESS: 0,
        JobState.FINALIZING: 30,
        JobState.CANCELLING: 0,
    }
