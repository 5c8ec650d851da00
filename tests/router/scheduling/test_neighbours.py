"""Who takes more than its share leaves nodes to others, and little idle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count, cycle

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import Outcome, Priority
from router.scheduling.board import Nodes
from router.scheduling.completion import Others
from router.scheduling.neighbours import Neighbours
from router.scheduling.pipeline import RoutingRequest
from router.snapshot import ResidentModel, Snapshot
from tests.router.scheduling.offering import offer
from tests.router.scheduling.test_scheduler import Fleet

MANY = 1000  # that wait
PLACES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz")))


def neighbours(*places: tuple[str, str]) -> Neighbours:
    """Have a request run for each (principal, node)."""
    made = Neighbours()
    for number, (principal, node) in enumerate(places):
        made.began(number, principal, node)
    return made


@given(nodes=st.lists(st.sampled_from("wxyz")), slots=st.integers(0, 16))
def test_alone(nodes, slots):
    """Who has the fleet for itself leaves nothing, nor does a newcomer."""
    made = neighbours(*(("a", node) for node in nodes))
    assert not made.left("a", MANY, lambda: slots)
    assert not made.left("b", MANY, lambda: slots)


def test_flood():
    """It leaves the nodes where another runs, once it would take all that is left."""
    made = neighbours(*(("flood", node) for node in "wwwwxxxxyy"), ("a", "y"))
    slots = lambda: 12  # noqa: E731
    assert {"y"} == made.left("flood", 2, slots)
    assert not made.left("a", MANY, slots)
    assert not made.left("flood", 1, slots)  # there is a slot for each that waits
    assert not made.left("flood", MANY, lambda: 14)  # more idle than `a` is worth
    made.most_idle = 0.0
    assert not made.left("flood", MANY, slots)
    made.most_idle = 2.0
    assert {"y"} == made.left("flood", MANY, slots)
    made.ended(10)
    assert not made.left("flood", MANY, slots)
    made.ended(10)  # once more: nothing
    made.ended("never began")


@given(places=PLACES, slots=st.integers(1, 40), waiting=st.integers(0, 20))
def test_bounds(places, slots, waiting):
    """Nobody leaves anything below its share, nor many slots for few requests."""
    made = neighbours(*places)
    runs = Counter(principal for principal, _ in places)
    share = slots / len(runs) if runs else 0.0
    small = [(who, node) for who, node in places if runs[who] < share]
    free = slots - len(places)
    for each in runs:
        left = made.left(each, waiting, lambda: slots)
        if left:
            assert runs[each] >= share
            assert free < waiting
            assert free <= 2 * len(small)
            assert left == {node for _, node in small}


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    slots=st.integers(1, 8),
)
def test_equal_principals_leave_nothing_idle(counts, slots):
    """Where all want more than their share every slot is taken, whoever has what."""
    made, numbers = Neighbours(), count()
    free = [node for node in "vwxyz" for _ in range(slots)]
    names = [f"p{number}" for number in range(len(counts))]

    def begin(principal: str) -> bool:
        left = made.left(principal, MANY, lambda: 5 * slots)
        node = next((each for each in free if each not in left), None)
        if node is None:
            return False
        free.remove(node)
        made.began(next(numbers), principal, node)
        return True

    for name, some in zip(names, counts, strict=True):
        for _ in range(some):
            begin(name)
    idle = 0
    for name in cycle(names):
        idle = 0 if begin(name) else idle + 1
        if idle == len(names):
            break
    assert not free


def test_two_floods():
    """They leave little for a third one: what the other flood has does not count."""
    made = neighbours(*(("a", "w"), ("b", "x")) * 4, ("c", "y"))
    assert {"y"} == made.left("a", MANY, lambda: 11) == made.left("b", MANY, lambda: 11)
    assert not made.left("a", MANY, lambda: 12)


def test_left_is_waited_for():
    """No model is evicted for who only waits for a node that is left to others."""
    w, x, y = (offer(name) for name in "wxy")
    nodes = Nodes([w, x], [], Others(100.0), {}, [], {"y": y})
    assert [w, x] == nodes.open_to(frozenset())
    assert [x] == nodes.open_to(frozenset(), frozenset("w"))
    assert [] == nodes.open_to(frozenset(), frozenset("wx"))
    assert [] == nodes.open_to(frozenset("w"), frozenset("x"))
    assert [y] == nodes.open_to(frozenset("wx"), frozenset("z"))


class Beside:
    """Two nodes with four slots; a flood has all of them but one, and wants more."""

    def __init__(self) -> None:
        self.fleet = Fleet(limit=100)
        resident = {"m:latest": ResidentModel("m:latest", "d", 1, 1)}
        views = {
            name: replace(view, node=replace(view.node, slots=4), resident=resident)
            for name, view in self.fleet.published.current.nodes.items()
        }
        self.fleet.ledger.configure(view.node for view in views.values())
        self.fleet.published.publish(Snapshot(views, made_at=0.0))
        self.runs = [self._acquire("flood") for _ in range(7)]
        self.polite = self._acquire("polite")
        self.waits = [gevent.spawn(self._acquire, "flood") for _ in range(9)]
        gevent.sleep(0)

    def _acquire(self, principal: str, priority: Priority = Priority.INTERACTIVE):
        routing = RoutingRequest("m:latest", principal=principal)
        return self.fleet.acquire(routing, priority=priority)

    def end(self, *, beside: bool) -> None:
        """End one of the flood's, on the polite one's node or on the other."""
        here = self.polite.node.name
        one = next(a for a in self.runs if (a.node.name == here) is beside)
        self.runs.remove(one)
        one.lease.done(Outcome.END)
        gevent.sleep(0)

    @property
    def begun(self) -> list[str]:
        """Name the nodes of those that waited and have a slot."""
        return [each.get().node.name for each in self.waits if each.ready()]

    def close(self) -> None:
        gevent.killall(self.waits)


@pytest.fixture
def beside():
    made = Beside()
    yield made
    made.close()


def test_flood_starts_elsewhere(beside):
    """Its slot on another's node stays free until that one's request ends."""
    here = beside.polite.node.name
    beside.end(beside=True)
    assert [] == beside.begun
    flood = RoutingRequest("m:latest", principal="flood")
    reason = beside.fleet.dispatcher.explain(flood).rejected[here]
    assert "its free slots are head-room for other requests" == reason
    beside.end(beside=False)
    assert 1 == len(beside.begun)
    assert here not in beside.begun
    beside.polite.lease.done(Outcome.END)
    gevent.sleep(0)
    assert [here, here] == [name for name in beside.begun if name == here]


def test_two_are_idle_for_one(beside):
    """No more slots than that are left to another's request."""
    for _ in range(2):
        beside.end(beside=True)
    assert [] == beside.begun
    beside.end(beside=True)
    assert [beside.polite.node.name] == beside.begun


def test_who_is_let_in(beside):
    """Others' first requests, streams that broke off, and one of batch."""
    here = beside.polite.node.name
    for priority, principal in (
        (Priority.INTERACTIVE, "third"),
        (Priority.CONTINUED, "flood"),
        (Priority.BATCH, "flood"),
    ):
        beside.end(beside=True)
        got = gevent.spawn(beside._acquire, principal, priority)
        gevent.sleep(0)
        if priority is Priority.BATCH:  # interactive ones go first, but are shut out
            assert not beside.begun
        assert here == got.get(timeout=5).node.name
