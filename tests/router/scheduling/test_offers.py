"""Offers that are kept from change to change are those that would be made anew."""

from __future__ import annotations

import random

import pytest

from router.capacity.ledger import Lease, Ledger
from router.model import Node, Outcome, Score, Timings
from router.scheduling.board import LOOKED_AT
from router.scheduling.estimates import Estimates
from router.scheduling.offers import Offers
from router.scheduling.pipeline import (
    Candidate,
    Decision,
    RoutingContext,
    weighed,
)
from router.scheduling.request import PendingRequest, RoutingRequest, Work
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot

MODEL = "m:latest"
PRESENT = {MODEL: PresentModel(MODEL, "d", 4_000_000_000)}
RESIDENT = {MODEL: ResidentModel(MODEL, "d", 1, 1)}


class Rig:
    """A ledger over some nodes, and a clock that is set by hand."""

    def __init__(self, count: int, slots: int = 2) -> None:
        self.now = 0.0
        self.ledger = Ledger(1, lambda: self.now)
        self.estimates = Estimates(self.ledger, lambda: self.now)
        self.ledger.listen(self.estimates.ended)
        nodes = [Node(f"n{n}", f"http://n{n}:1", slots) for n in range(count)]
        self.ledger.configure(nodes)
        views = {
            node.name: NodeView(node, Score(0.5), None, PRESENT, RESIDENT)
            for node in nodes
        }
        self.snapshot = Snapshot(views, 0.0)
        self.estimates.look(self.snapshot)
        self.leases: list[Lease] = []

    @property
    def scene(self) -> RoutingContext:
        offers = self.estimates.offers
        return RoutingContext(self.snapshot, lambda _: (), self.ledger, offers)

    def nodes(self, offers: Offers | None = None):
        return (offers or self.estimates.offers).nodes(MODEL, self.scene)

    def fresh(self):
        return self.nodes(Offers(self.ledger, self.estimates, lambda: self.now))

    def take(self, node: str) -> None:
        lease = self.ledger.take(node, MODEL)
        lease.decoding_since = self.now
        asking = PendingRequest(RoutingRequest(MODEL), Work(500.0), self.now)
        decided = Decision(None, ())
        self.estimates.began(lease, asking, decided)
        self.leases.append(lease)

    def end(self, index: int, speed: float, seconds: float) -> None:
        self.now += seconds
        lease = self.leases.pop(index)
        tokens = max(2, int(speed * seconds))
        lease.done(Outcome.END, Timings(500, tokens, 0.1, seconds))


def names(offers):
    return [offer.view.node.name for offer in offers]


@pytest.mark.parametrize("seed", range(20))
def test_kept_as_if_made_anew(seed):
    """Whatever was taken and ended in between."""
    rig, rng = Rig(6), random.Random(seed)
    rig.nodes()
    for _ in range(60):
        free = names(rig.nodes().free)
        if free and rng.random() < 0.6:
            rig.take(rng.choice(free))
        elif rig.leases:
            index = rng.randrange(len(rig.leases))
            rig.end(index, rng.uniform(5, 100), rng.uniform(0.5, 9))
        kept, fresh = rig.nodes(), rig.fresh()
        assert set(names(kept.free)) == set(names(fresh.free))
        assert set(kept.full) == set(fresh.full)
        by_name = {offer.view.node.name: offer for offer in fresh.free}
        for offer in kept.free:
            same = by_name[offer.view.node.name]
            assert (offer.streams, offer.running) == (same.streams, same.running)
            assert offer.arrivals == pytest.approx(same.arrivals)
            assert offer.read_until == same.read_until


def test_of_many_the_quickest_are_looked_at():
    """A decision does not look at each of a thousand nodes."""
    rig = Rig(100)
    for number in range(100):
        rig.take(f"n{number}")
        rig.end(0, 10 + number, 2.0)
    nodes = rig.nodes()
    assert LOOKED_AT == len(nodes.free)
    assert 100 - LOOKED_AT == nodes.slower
    assert {"n99", "n98", "n97"} <= set(names(nodes.free))


def test_a_node_that_hangs_frees_no_slot():
    """Streams that are far older than any that ended are not expected to end."""
    rig = Rig(1, slots=1)
    for _ in range(6):
        rig.take("n0")
        rig.end(0, 50, 2.0)
    rig.take("n0")
    before = rig.fresh().groups[0].ends
    rig.now += 600

    assert before == pytest.approx(0.5)
    assert rig.fresh().groups[0].ends < 0.01


def test_prompts_that_are_read_are_known():
    """Who comes next has to wait for them."""
    rig = Rig(1)
    rig.take("n0")
    rig.end(0, 50, 2.0)
    rig.take("n0")

    assert rig.nodes().free[0].read_until == pytest.approx(rig.now + 0.1, rel=0.01)


def test_a_node_that_left_is_forgotten():
    """A new snapshot is a new fleet."""
    rig = Rig(2)
    assert {"n0", "n1"} == set(names(rig.nodes().free))
    rig.snapshot = Snapshot({"n1": rig.snapshot.nodes["n1"]}, 1.0)
    assert ["n1"] == names(rig.nodes().free)


def test_jobs_that_yield_are_no_load():
    """A person does not see an item, and one that begins to yield makes room."""
    rig = Rig(1, slots=1)
    lease = rig.ledger.take("n0", MODEL)
    assert [] == rig.nodes().free
    lease.allow_revoking(lambda: None)
    assert ["n0"] == names(rig.nodes().free)


def test_nobody_waits_for_a_guess():
    """A full node that never answered is in a group of its own kind."""
    rig = Rig(1, slots=1)
    rig.take("n0")
    nodes = rig.nodes()
    assert ["n0"] == list(nodes.full)
    assert [False] == [group.measured for group in nodes.groups]


def test_a_load_that_is_over_is_seen_by_every_model():
    """What is loaded is known from the first token on, whoever asks next."""
    rig = Rig(1, slots=4)
    other = "other:latest"
    view = rig.snapshot.nodes["n0"]
    present = {**PRESENT, other: PRESENT[MODEL]}
    views = {"n0": NodeView(view.node, view.score, None, present, {})}
    rig.now = 100.0
    rig.snapshot = Snapshot(views, 100.0)
    rig.estimates.look(rig.snapshot)

    def cold(model):
        return rig.estimates.offers.nodes(model, rig.scene).free[0].load > 0

    assert (True, True) == (cold(MODEL), cold(other))
    decided = Decision(Candidate(rig.nodes().free[0], Work(), 0.0, rig.now), ())
    lease = rig.ledger.take("n0", MODEL)
    rig.estimates.began(
        lease, PendingRequest(RoutingRequest(MODEL), Work(), rig.now), decided
    )
    assert rig.nodes().free[0].ready_at > rig.now
    assert rig.estimates.offers.nodes(other, rig.scene).free[0].ready_at > rig.now
    rig.now += 1
    lease.decoding_since = rig.now
    assert not rig.nodes().free[0].ready_at
    assert not rig.estimates.offers.nodes(other, rig.scene).free[0].ready_at


def test_a_slowed_node_is_tried_by_a_short_answer():
    """It is weighed as it was before, by who loses little if it has not recovered."""
    rig = Rig(2)
    for name in ("n0", "n1"):
        for _ in range(8):
            rig.take(name)
            rig.end(-1, 100.0 if name == "n0" else 50.0, 2.0)
    rig.ledger.learned.drift(("n0", MODEL), 0.25, rig.now)
    rig.ledger.changes.add("n0")
    typical = rig.nodes().others.typical
    assert quickest(rig, typical) == quickest(rig, 0.5 * typical) == "n1"
    rig.now += 31.0
    rig.ledger.look_at_streams()
    assert quickest(rig, typical) == "n1"
    assert quickest(rig, 0.5 * typical) == "n0"
    rig.now += 15.0
    rig.ledger.look_at_streams()
    assert quickest(rig, typical) == "n0"
    rig.take("n0")
    assert quickest(rig, 0.5 * typical) == "n1"


def test_a_slowed_node_takes_long_answers_where_no_other_is_free():
    rig = Rig(1)
    for _ in range(8):
        rig.take("n0")
        rig.end(-1, 100.0, 2.0)
    rig.ledger.learned.drift(("n0", MODEL), 0.25, rig.now)
    rig.now += 31.0
    rig.ledger.look_at_streams()
    assert rig.nodes().short_only == 1
    assert quickest(rig, 10_000.0) == "n0"


def quickest(rig: Rig, tokens: float) -> str:
    """Return the node with the least cost of an answer of so many tokens."""
    work = Work(500.0, tokens, tokens * tokens)
    asking = PendingRequest(RoutingRequest(MODEL), work, rig.now)
    nodes = rig.nodes()
    return min(weighed(asking, nodes, rig.now), key=lambda each: each.cost).name
