"""Slots for jobs: only those that nobody in the queue could use."""

from __future__ import annotations

import gevent
import pytest

from router.health.circuits import CIRCUIT
from router.model import Hold, HoldKind, Outcome, Priority
from router.scheduling.idle import FleetView as Parts
from router.scheduling.idle import SpareCapacity
from tests.router.scheduling.test_scheduler import Fleet

MODEL = "m:latest"


@pytest.fixture
def fleet():
    return Fleet()


@pytest.fixture
def idle(fleet):
    parts = (fleet.published, fleet.holds, fleet.ledger, fleet.dispatcher.queue)
    return SpareCapacity(Parts(*parts, fleet.dispatcher.estimates))


def names(idle):
    return [view.node.name for view in idle.nodes()]


def view(fleet, name):
    return fleet.published.current.nodes[name]


def test_a_free_slot_is_taken_once(fleet, idle):
    """The second finds none, until the lease has ended."""
    assignment = idle.take(view(fleet, "slow"), MODEL)
    assert "slow" == assignment.node.name
    assert idle.take(view(fleet, "slow"), MODEL) is None
    assert not idle.room("slow", MODEL)
    assignment.lease.done(Outcome.END)
    assert idle.room("slow", MODEL)


def test_held_nodes_are_left_alone(fleet, idle):
    """As for everybody."""
    fleet.hold("fast")
    assert ["slow"] == names(idle)


def test_what_somebody_waits_for_is_not_idle(fleet, idle):
    """A node that a waiter could use is none of ours, also while it has room."""
    held = [fleet.acquire(), fleet.acquire()]
    waiting = gevent.spawn(fleet.acquire)
    gevent.sleep(0)
    assert [] == names(idle)
    assert idle.wanted
    held[0].lease.done(Outcome.END)
    waiting.get().lease.done(Outcome.END)
    assert ["fast", "slow"] == names(idle)
    assert not idle.wanted
    held[1].lease.done(Outcome.END)


def test_other_jobs_in_the_queue_are_no_people(fleet, idle):
    """They wait like items."""
    held = [fleet.acquire(), fleet.acquire()]
    waiting = gevent.spawn(fleet.acquire, priority=Priority.BATCH)
    gevent.sleep(0)
    assert (False, []) == (idle.wanted, names(idle))
    waiting.kill()
    for assignment in held:
        assignment.lease.done(Outcome.END)


def test_why_a_model_does_not_run(fleet, idle):
    """By node, in the words of the explain route."""
    fleet.hold("fast")
    found = idle.decision("other:latest").rejected
    assert "cordon: service" == found["fast"]
    assert found["slow"].startswith("model ")
    assert idle.decision(MODEL).picked.name == "slow"


class Failing:
    """Nodes whose circuits are open."""

    def __init__(self, *nodes):
        self.troubled = frozenset(nodes)

    def reason(self, node, model):
        return "circuit open: boom" if node in self.troubled else None

    def one_at_a_time(self, node, model):
        return False


def with_failing(fleet, *nodes):
    """Idle slots of a fleet some of whose nodes fail, and are held for it."""
    for node in nodes:
        fleet.holds.place(Hold(node, HoldKind.DOWN, CIRCUIT, "boom", 0.0))
    parts = (fleet.published, fleet.holds, fleet.ledger, fleet.dispatcher.queue)
    estimates = fleet.dispatcher.estimates
    return SpareCapacity(Parts(*parts, estimates, health=Failing(*nodes)))


def test_nodes_that_fail_get_no_items(fleet):
    """While another node may take them."""
    idle = with_failing(fleet, "fast")
    assert not idle.room("fast", MODEL)
    assert idle.take(view(fleet, "fast"), MODEL) is None
    assert idle.room("slow", MODEL)


def test_items_go_on_where_every_node_fails(fleet):
    """As people's requests do: each item has its tries, and ends."""
    idle = with_failing(fleet, "fast", "slow")
    assert ["fast", "slow"] == names(idle)
    assert idle.room("fast", MODEL)
    assert idle.take(view(fleet, "fast"), MODEL)
