"""Jobs leave a node as soon as a person's request is to run there."""

from __future__ import annotations

import gevent

from router.model import Outcome, Priority
from router.scheduling.idle import FleetView as IdleFleet
from router.scheduling.idle import SpareCapacity
from tests.router.scheduling.test_scheduler import ROUTING, Fleet


class Item:
    """An item's lease, which ends a moment after it was taken back."""

    def __init__(self, fleet: Fleet, node: str) -> None:
        self.lease = fleet.ledger.take(node, ROUTING.model)
        self.revoked = 0
        self.lease.allow_revoking(self._revoked)

    def _revoked(self) -> None:
        self.revoked += 1
        gevent.spawn(self.lease.done, Outcome.REVOKED)


def idle(fleet: Fleet) -> SpareCapacity:
    parts = IdleFleet(
        fleet.published,
        fleet.holds,
        fleet.ledger,
        fleet.dispatcher.queue,
        fleet.dispatcher.estimates,
    )
    return SpareCapacity(parts)


def test_people_do_not_see_items():
    """The best node is the best one also while a job uses it."""
    fleet = Fleet()
    item = Item(fleet, "fast")

    assert fleet.acquire().node.name == "fast"
    assert item.revoked == 1


def test_a_slot_is_never_given_twice():
    """The person has it when the item has left, not before."""
    fleet = Fleet()
    item = Item(fleet, "fast")
    counts = []
    fleet.ledger.listen(lambda *_: counts.append(fleet.ledger.in_flight("fast")))
    assignment = fleet.acquire()

    assert counts == [1]  # when the item had left, the person came
    assert fleet.ledger.leases("fast") == (assignment.lease,)
    assert item.lease not in fleet.ledger.leases("fast")


def test_items_leave_a_node_with_slots_to_spare():
    """Streams that share a node slow each other, so they go at once all the same."""
    fleet = Fleet()
    fleet.ledger.configure([])  # as many as the default
    fleet.ledger.default_slots = 4
    fleet.ledger._configured = {"fast": 4, "slow": 4}
    item = Item(fleet, "fast")
    assignment = fleet.acquire()

    assert assignment.node.name == "fast"
    assert item.revoked == 1
    assert fleet.ledger.in_flight("fast") == 2  # it is being closed
    gevent.sleep(0)
    assert fleet.ledger.in_flight("fast") == 1


def test_items_see_each_other():
    """For another item a slot that an item has is taken."""
    fleet = Fleet()
    Item(fleet, "fast")

    assert not idle(fleet).room("fast", ROUTING.model)
    assert idle(fleet).room("slow", ROUTING.model)


def test_what_does_not_yield_counts():
    """An item that may run to its end is load like any other."""
    fleet = Fleet()
    fleet.ledger.take("fast", ROUTING.model)

    assert fleet.acquire().node.name == "slow"


def test_nothing_is_left_when_items_have_ended():
    """However they ended, the node is counted as it was."""
    fleet = Fleet()
    for outcome in (Outcome.END, Outcome.REVOKED, Outcome.REFUSED):
        item = Item(fleet, "fast")
        item.lease.done(outcome)
        item.lease.allow_revoking(lambda: None)  # too late: it counts for nothing

    assert fleet.ledger.room("fast", ROUTING.model) == 0
    assert not fleet.ledger.take_back("fast")


def test_a_request_of_low_priority_takes_nothing_back():
    """To it an item is load, so it goes where nothing runs."""
    fleet = Fleet()
    item = Item(fleet, "fast")

    assert fleet.acquire(priority=Priority.BATCH).node.name == "slow"
    assert item.revoked == 0
