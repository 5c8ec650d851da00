"""Slots that batch requests leave free, and the one that they get in any case."""

from __future__ import annotations

from math import inf

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import Outcome, Priority
from router.scheduling.fairness import FairShares
from router.scheduling.head_room import HeadRoom
from tests.router.scheduling.test_scheduler import ROUTING, Fleet

BATCH = Priority.BATCH


def shares(interactive: int, batch: int) -> dict[Priority, FairShares]:
    found = {priority: FairShares(1) for priority in Priority}
    running = {Priority.INTERACTIVE: interactive, BATCH: batch}
    for priority, count in running.items():
        for number in range(count):
            found[priority].charge(number, "a", 1.0, 1.0)
    return found


@given(
    share=st.floats(0, 0.9),
    slots=st.integers(1, 200),
    interactive=st.integers(0, 50),
)
def test_batch_leaves_a_share_free(share, slots, interactive):
    """As many batch requests as there is room for leave that share, rounded down."""
    head_room, running = HeadRoom(share), shares(interactive, 0)
    batch = 0
    while batch + interactive < slots and not head_room.keeps_out(
        BATCH, running, lambda: slots
    ):
        running[BATCH].charge(batch, "a", 1.0, 1.0)
        batch += 1
    assert not batch or slots - interactive - batch >= int(share * slots)
    assert batch or interactive >= slots - int(share * slots)
    for priority in (Priority.INTERACTIVE, Priority.CONTINUED):
        assert not head_room.keeps_out(priority, running, lambda: slots)


@pytest.mark.parametrize(
    ("waited", "running", "due"),
    [(59.0, 0, False), (60.0, 0, True), (inf, 1, False)],
    ids=["not yet", "long enough", "another runs"],
)
def test_due(waited, running, due):
    """One at a time, and only after a while."""
    assert due is HeadRoom(0.0, 60.0).is_due(waited, running)


def test_interactive_requests_find_a_slot():
    """Batch requests wait although a node is free, and are told why."""
    fleet = Fleet()
    fleet.dispatcher.head_room = HeadRoom(0.5)
    first = fleet.acquire(priority=BATCH)
    second = gevent.spawn(fleet.acquire, priority=BATCH)
    gevent.sleep(0)
    assert 1 == fleet.dispatcher.queue.length(BATCH)
    reasons = fleet.dispatcher.explain(ROUTING, BATCH).rejected
    assert "its free slots are head-room for other requests" == reasons["slow"]

    interactive = fleet.acquire()
    assert "slow" == interactive.node.name
    interactive.lease.done(Outcome.END)
    gevent.sleep(0)
    assert 1 == fleet.dispatcher.queue.length(BATCH)

    first.lease.done(Outcome.END)
    got = second.get(timeout=5)
    assert ("slow",) == got.decision.reserved
    assert got.decision.picked


def test_batch_requests_do_not_starve():
    """After a while the next slot is theirs, one at a time, whoever else waits."""
    now = [0.0]
    fleet = Fleet(clock=lambda: now[0])
    fleet.dispatcher.head_room = HeadRoom(0.5, 60.0)
    running = [fleet.acquire(), fleet.acquire()]
    batch = [gevent.spawn(fleet.acquire, priority=BATCH, seconds=999) for _ in "ab"]
    gevent.sleep(0)
    interactive = [gevent.spawn(fleet.acquire, seconds=999) for _ in range(6)]
    gevent.sleep(0)

    def end(assignment) -> None:
        """Have a request end a second later, and who gets its slot begin."""
        now[0] += 1.0
        assignment.lease.done(Outcome.END)
        gevent.sleep(0)

    end(running[0])
    assert not any(each.ready() for each in batch)
    now[0] = 60.0
    end(running[1])
    assert [True, False] == [each.ready() for each in batch]
    served = [each for each in interactive if each.ready()]
    end(served[0].get())
    assert not batch[1].ready()
    end(batch[0].get())
    assert batch[1].ready()
    gevent.killall(interactive)
