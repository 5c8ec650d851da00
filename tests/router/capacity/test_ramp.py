"""A derated node gets less, and one that came back gets its slots one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from router.capacity.ledger import Ledger
from router.capacity.ramp import SlowStart
from router.model import Node, Outcome, Score, Timings
from router.pickers import shortest_completion
from router.scheduling.estimates import Estimates
from router.scheduling.pipeline import RoutingContext, decide
from router.scheduling.request import PendingRequest, RoutingRequest
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot

MODEL = "m:latest"


@dataclass
class Holds:
    """What the hold store says, set by hand."""

    out: frozenset[str] = frozenset()
    factors: dict[str, float] = field(default_factory=dict)
    panic: bool = False

    def blocked(self, among=None):
        return self.out


class Scenario:
    """Easing over holds that a test changes, at a time that it moves."""

    def __init__(self, longest=30.0):
        self.slow_start, self.holds, self.longest, self.now = (
            SlowStart(),
            Holds(),
            longest,
            0.0,
        )

    def hold(self, *nodes, panic=False, **factors):
        self.holds = Holds(frozenset(nodes), factors, panic)
        self.slow_start.look(self.holds, self.longest, self.now)

    def slots(self, node="a", of=8):
        return self.slow_start.slots(node, of, lambda: self.now)


@pytest.fixture
def scenario():
    return Scenario()


def test_nothing_is_eased_at_first(scenario):
    """A router that starts gives every node its slots."""
    scenario.hold()
    assert not scenario.slow_start.active
    assert scenario.slots() == 8


def test_a_node_that_came_back_gets_its_slots_one_by_one(scenario):
    """One at once, all after the ramp; nobody asks for it any more then."""
    scenario.hold("a")
    scenario.now = 100.0
    scenario.hold()
    given = []
    for second in (0, 4, 15, 29, 30):
        scenario.now = 100.0 + second
        given.append(scenario.slots())
    assert given == [1, 2, 4, 8, 8]
    assert not scenario.slow_start.active
    assert scenario.slots("b") == 8


def test_a_short_absence_makes_a_short_ramp(scenario):
    """A node that was away for a second has lost little."""
    scenario.hold("a")
    scenario.now = 1.0
    scenario.hold()
    scenario.now = 1.5
    assert scenario.slots() == 4
    scenario.now = 2.0
    assert scenario.slots() == 8


def test_a_node_that_leaves_again_begins_anew(scenario):
    """The ramp is of the last return."""
    scenario.hold("a")
    scenario.now = 100.0
    scenario.hold()
    scenario.now = 120.0
    scenario.hold("a")
    scenario.now = 150.0
    scenario.hold()
    assert scenario.slots() == 1


def test_panic_is_no_return(scenario):
    """While too many are held, every slot is needed at once."""
    scenario.hold("a")
    scenario.now = 100.0
    scenario.hold(panic=True)
    assert scenario.slots() == 8
    scenario.hold("a")
    scenario.now = 200.0
    scenario.hold()
    assert scenario.slots() == 1


@pytest.mark.parametrize(
    ("factor", "of", "left"), [(0.5, 8, 4), (0.5, 1, 1), (0.01, 8, 1), (0.3, 0, 0)]
)
def test_a_derated_node_keeps_its_share_of_slots(scenario, factor, of, left):
    """At least one: keeping work away altogether is a drain's affair."""
    scenario.hold(a=factor)
    assert scenario.slots(of=of) == left


def ledger(**factors):
    made = Ledger(4, lambda: 10.0)
    made.configure([Node(n, f"http://{n}:1", slots=4) for n in "ab"])
    made.slow_start.look(Holds(factors=factors), 30.0, 0.0)
    return made


def scene(made):
    present = {MODEL: PresentModel(MODEL, "d", 1)}
    resident = {MODEL: ResidentModel(MODEL, "d", 1, 1)}
    views = {
        name: NodeView(
            Node(name, f"http://{name}:1"),
            Score(0.5),
            present=present,
            resident=resident,
        )
        for name in "ab"
    }
    offers = Estimates(made, lambda: 10.0).offers
    return RoutingContext(Snapshot(views, 0.0), lambda _: (), made, offers)


def test_a_derated_node_is_chosen_less():
    """Equal nodes, equally measured: the one that is well is taken first."""
    made = ledger(a=0.5)
    done = Timings(generated_tokens=100, generate_seconds=1.0)
    for name in "ab":
        for _ in range(2):
            lease = made.take(name, MODEL)
            lease.decoding_since = 9.0
            lease.done(Outcome.END, done)
    picked = decide(
        PendingRequest(RoutingRequest(MODEL)), scene(made), shortest_completion, 10.0
    ).picked
    assert picked is not None
    assert picked.name == "b"


def test_a_derated_node_has_fewer_slots():
    """When everything is busy, what is left of it counts too."""
    made = ledger(a=0.5)
    assert (made.limit("a", MODEL), made.limit("b", MODEL)) == (2, 4)
    made.take("a", MODEL)
    made.take("a", MODEL)
    assert made.room("a", MODEL) is None
