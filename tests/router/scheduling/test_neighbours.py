"""Who takes more than its share leaves nodes to others, and little idle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count, cycle
from math import exp

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import Outcome, Priority
from router.scheduling.board import Nodes
from router.scheduling.completion import Others
from router.scheduling.matching import WINDOW
from router.scheduling.neighbours import Left, Neighbours
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Waiter
from router.scheduling.request import PendingRequest
from router.scheduling.scheduler import _window
from router.snapshot import ResidentModel, Snapshot
from tests.router.scheduling.offering import offer
from tests.router.scheduling.test_scheduler import Fleet

MANY = 1000  # that wait
RUNNER = "m:latest"
PLACES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz")))


class Nodes4:
    """Nodes in the order of their speed, with their slots."""

    def __init__(self, nodes="vwxyz", slots=4, streams=2, **models) -> None:
        self.nodes = dict.fromkeys(nodes, slots)
        self.models = models
        self.streams = streams
        self.wait: dict[str, int] = {}

    @property
    def total(self) -> int:
        return sum(self.nodes.values())

    def slots(self, node: str) -> int:
        return self.nodes[node]

    def quickest(self, runner: str) -> list[str]:
        return list(self.models.get(runner, self.nodes))

    def streams_at_speed(self, runner: str) -> int:
        return self.streams

    def waiting(self, principal: str) -> int:
        return self.wait.get(principal, 0)


class Flood:
    """What `flood` leaves where these run: (principal, node)."""

    def __init__(self, *places: tuple[str, str], **settings) -> None:
        self.neighbours = Neighbours(**settings)
        for number, (principal, node) in enumerate(places):
            self.neighbours.began(number, principal, node, RUNNER, 0.0)

    def left(self, fleet, waiting=MANY, now=0.0, who="flood", runner=RUNNER) -> Left:
        return self.neighbours.left(who, runner, waiting, fleet, now)

    def nodes(self, fleet, **asked) -> str:
        return "".join(sorted(self.left(fleet, **asked).nodes))


@given(nodes=st.lists(st.sampled_from("wxyz")), slots=st.integers(1, 4))
def test_alone(nodes, slots):
    """Who has the fleet for itself leaves nothing, nor does a newcomer."""
    made = Flood(*(("flood", node) for node in nodes))
    assert not made.left(Nodes4(slots=slots)).nodes
    assert not made.left(Nodes4(slots=slots), who="new").nodes


def test_clear_nodes():
    """A flood leaves another's node at once, and quick ones once it comes again."""
    made = Flood(*(("flood", node) for node in "vvvvwwwwxxxxyyyyzz"), ("a", "z"))
    assert "z" == made.nodes(Nodes4())
    assert "vz" == made.nodes(Nodes4(), now=20.0)
    assert "vw" == made.nodes(Nodes4(streams=1), now=40.0)  # two, while there is room
    made.neighbours.clear = 0.5
    assert "vz" == made.nodes(Nodes4(streams=1), now=60.0)
    assert "" == made.nodes(Nodes4(), who="a", now=60.0)
    assert "" == made.nodes(Nodes4(), waiting=1, now=60.0)  # there is a slot for it
    made.neighbours.most_idle = 0.0
    assert "" == made.nodes(Nodes4(), now=60.0)


def test_alone_again():
    """What nobody uses any more is not kept: a lone flood has the whole fleet."""
    made = Flood(*(("flood", node) for node in "vvvvwwwwxxxxyyyyzz"), ("a", "z"))
    made.left(Nodes4(), now=300.0)
    made.neighbours.ended(18, 300.0)
    made.neighbours.ended(18, 300.0)  # once more: nothing
    made.neighbours.ended("never began", 300.0)
    assert "v" == made.nodes(Nodes4(), now=330.0)
    assert "" == made.nodes(Nodes4(), now=420.0)


def test_long_away():
    """Who comes back after an hour to a full fleet leaves nothing: it has nothing."""
    made = Flood(*(("a", node) for node in "vvvvwwwwxxxxyyyyzzz"), ("flood", "z"))
    made.neighbours.ended(19, 1.0)
    assert "" == made.nodes(Nodes4(), waiting=2, now=3600.0)
    assert "" == made.nodes(Nodes4(), waiting=2, now=3600.0)


def test_its_share():
    """A flood has its share, and does not wait while it has less."""
    made = Flood(*(("flood", node) for node in "xxxxyyyyz"), ("a", "v"))
    left = made.left(Nodes4(), now=60.0)
    assert not left.waits  # 9 of 20 slots
    for number in range(100, 103):
        made.neighbours.began(number, "flood", "z", RUNNER, 60.0)
    assert made.left(Nodes4(), now=60.0) == left._replace(waits=True)
    assert not made.left(Nodes4(), waiting=0, now=60.0).nodes


def test_model_on_few_nodes():
    """It gets its share of those; others' models are none of its business."""
    made = Flood(*(("flood", node) for node in "vvvvww"), ("a", "w"), ("b", "z"))
    made.neighbours.began("c", "b", "y", "other", 0.0)
    made.neighbours.began("d", "a", "x", "other", 0.0)
    fleet = Nodes4(few="vw", other="wxyz")
    assert made.left(fleet, runner="few", now=60.0) == Left(frozenset("w"), True)
    one = Nodes4(few="v", other="wxyz")
    assert not made.left(one, runner="few", now=90.0).nodes


def test_one_node():
    """No node can be spared, but slots: two for one at most."""
    made = Flood(("flood", "v"), ("flood", "v"), ("a", "v"))
    assert made.left(Nodes4("v"), now=60.0) == Left(frozenset("v"), waits=True)
    assert not made.left(Nodes4("v", 6), now=70.0).nodes
    made.neighbours.ended(0, 80.0)
    assert not made.left(Nodes4("v"), now=80.0).waits


def test_refused():
    """What its limit refuses counts as waiting, for some seconds."""
    made = Flood(*(("flood", node) for node in "vvvv"), ("a", "z"))
    assert "" == made.nodes(Nodes4(), waiting=1, now=60.0)
    for _ in range(40):
        made.neighbours.refused("flood", 60.0)
    made.neighbours.refused("unknown", 60.0)
    left = made.left(Nodes4(), waiting=1, now=60.0)
    assert left == Left(frozenset("vz"), waits=False)
    assert "" == made.nodes(Nodes4(), waiting=1, now=90.0)


def test_others_that_want_more():
    """Who wants more than its share is no more spared than the flood."""
    others = (("b", node) for node in "xxyyz")
    made = Flood(*(("flood", node) for node in "vvvvwwww"), *others)
    fleet = Nodes4()
    assert made.nodes(fleet, now=60.0)
    fleet.wait["b"] = 9
    assert made.nodes(fleet, now=70.0)
    fleet.wait["b"] = 15
    assert "" == made.nodes(fleet, now=80.0)


@given(
    places=PLACES,
    slots=st.integers(1, 9),
    waiting=st.integers(0, 20),
    queued=st.integers(0, 9),
    now=st.floats(0.0, 99.0),
)
def test_bounds(places, slots, waiting, queued, now):
    """What is left never takes a share from who wants it, nor has it wait below it."""
    made, fleet = Flood(*places, clear=9.0), Nodes4("wxyz", slots)
    fleet.wait["b"] = queued
    runs = Counter(principal for principal, _ in places)
    share = -(-fleet.total // max(2, len(runs)))
    for each in runs:
        left = made.left(fleet, waiting, now, each)
        large = 1 + sum(
            runs[other] * (1 - exp(-now / 45)) >= share
            or runs[other] + fleet.waiting(other) >= 2 * share
            for other in runs
            if other != each
        )
        if left.nodes:
            free = fleet.total - len(places)
            spared = fleet.total - slots * len(left.nodes) >= share * large
            assert spared or free <= 2 * (len(places) - runs[each])
            assert free < waiting
            assert left.waits is (runs[each] >= share)
            assert runs[each] + waiting > share


@given(places=PLACES, slots=st.integers(1, 10), waiting=st.integers(0, 20))
def test_bounds_of_idle_slots(places, slots, waiting):
    """Without clear nodes not many slots stay idle for few requests."""
    made, fleet = Flood(*places, clear=0.0), Nodes4("wxyz", slots)
    runs = Counter(principal for principal, _ in places)
    share = fleet.total / len(runs) if runs else 0.0
    small = [(who, node) for who, node in places if runs[who] < share]
    free = fleet.total - len(places)
    for each in runs:
        left = made.left(fleet, waiting, 60.0, each)
        if left.nodes:
            assert runs[each] >= share
            assert free < waiting
            assert free <= 2 * len(small)
            assert left == Left(frozenset(node for _, node in small), waits=True)


@pytest.mark.parametrize("clear", [0.0, 1.0])
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    slots=st.integers(1, 8),
)
def test_equal_principals_leave_nothing_idle(clear, counts, slots):
    """Where all want more than their share every slot is taken, whoever has what."""
    made, numbers = Neighbours(clear), count()
    fleet = Nodes4(slots=slots)
    free = [node for node in "vwxyz" for _ in range(slots)]
    names = [f"p{number}" for number in range(len(counts))]
    fleet.wait = dict.fromkeys(names, MANY)

    def begin(principal: str) -> bool:
        left = made.left(principal, RUNNER, MANY, fleet, 60.0)
        node = next((each for each in free if each not in left.nodes), None)
        if node is None and free and not left.waits:
            node = free[0]
        if node is None:
            return False
        free.remove(node)
        made.began(next(numbers), principal, node, RUNNER, 60.0)
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


def test_window():
    """Behind many that leave nodes to others, those are looked at as well."""
    pending = PendingRequest(RoutingRequest(RUNNER))
    leaves, takes = (
        Waiter(pending._replace(left=left), Priority.INTERACTIVE, lambda: None)
        for left in (frozenset("v"), frozenset())
    )
    assert [leaves] * 9 + [takes] == list(_window(iter([leaves] * 9 + [takes])))
    assert [takes] * WINDOW == list(_window(iter([takes] * 99)))


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
    """Without clear nodes no more slots than that are left to another's request."""
    beside.fleet.dispatcher.neighbours.clear = 0.0
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
