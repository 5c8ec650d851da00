"""Which node has read a prompt, and the chance that it still has it."""

from __future__ import annotations

import random

import pytest

from router.capacity.ledger import Ledger
from router.model import Node, Outcome, Priority, Score, Timings
from router.pickers import shortest_completion
from router.scheduling.estimates import Estimates
from router.scheduling.pipeline import RoutingContext, decide
from router.scheduling.prompt_caches import _MOST_PREFIXES, PromptCaches
from router.scheduling.request import RoutingRequest, Traits, Work
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot
from router.text.prompt_prefixes import PromptPrefixes

M = "m:latest"
CHAT = PromptPrefixes((), (1,))
TURN = PromptPrefixes(((1, 0.9),), (2,))


def read(caches, node, prefixes=CHAT):
    caches.began(node, M, loads=False)
    caches.read(node, M, prefixes)


def others(caches, node, count):
    for _ in range(count):
        caches.began(node, M, loads=False)


def found(caches, prefixes=TURN):
    reuse = caches.look_up(M, prefixes)
    assert reuse is not None
    return reuse


def at(caches, node="a", prefixes=TURN):
    reuse = caches.look_up(M, prefixes)
    return reuse.at(node) if reuse else None


def test_who_read_it_has_it():
    """Right after it all of it is expected there, and elsewhere nothing."""
    caches = PromptCaches()
    read(caches, "a")
    assert (0.9, 0, 1.0) == at(caches)
    assert at(caches, "b") is None
    assert at(caches, prefixes=PromptPrefixes(((7, 1.0),), ())) is None


def test_work_that_is_left():
    """By the share and the chance; the whole prompt stays known."""
    caches = PromptCaches()
    read(caches, "a")
    reuse = found(caches)
    work = Work(1000.0)
    assert (1000.0, pytest.approx(100.0)) == (
        reuse.on("a", work).prompt,
        reuse.on("a", work).unread,
    )
    assert work == reuse.on("b", work)


def test_other_requests_push_it_out():
    """The chance falls by those in between, before anything was learned."""
    caches = PromptCaches()
    read(caches, "a")
    chances = []
    for _ in range(6):
        chances.append(at(caches).chance)
        others(caches, "a", 3)
    assert sorted(chances, reverse=True) == chances
    assert chances[-1] < 0.1


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_chances_are_learned(truth):
    """By requests in between: what was believed wrongly fades."""
    caches = PromptCaches()
    for _ in range(30):
        caches.learn("a", M, 6, truth)
    assert truth == pytest.approx(caches.chance("a", M, 6), abs=0.05)
    assert truth == pytest.approx(caches.chance("a", M, 7), abs=0.05)
    assert caches.chance("a", M, 0) == 1.0


def test_a_node_learns_from_others():
    """Until its own replies outweigh theirs."""
    caches = PromptCaches()
    for _ in range(30):
        caches.learn("a", M, 6, 1.0)
    assert caches.chance("b", M, 6) > 0.9
    for _ in range(20):
        caches.learn("b", M, 6, 0.0)
    assert caches.chance("b", M, 6) < 0.3
    assert caches.chance("a", M, 6) > 0.8


def test_a_load_empties_the_cache():
    """Whatever was read before it is gone."""
    caches = PromptCaches()
    read(caches, "a")
    caches.began("a", M, loads=True)
    assert at(caches) is None
    read(caches, "a")
    assert at(caches) is not None


def test_the_best_of_several_beginnings():
    """A system prompt read just now may be worth more than a long turn of long ago."""
    caches = PromptCaches()
    read(caches, "a", PromptPrefixes((), (1,)))
    others(caches, "a", 40)
    read(caches, "a", PromptPrefixes((), (5,)))
    best = at(caches, prefixes=PromptPrefixes(((1, 0.9), (5, 0.4)), ()))
    assert (0.4, 1.0) == (best.share, best.chance)


def test_bounded():
    """What was used longest ago is forgotten; of a common beginning the newest stay."""
    caches, rng = PromptCaches(), random.Random(1)
    for number in range(_MOST_PREFIXES + 100):
        read(caches, f"n{rng.randrange(20)}", PromptPrefixes((), (number, -7)))
    assert _MOST_PREFIXES == len(caches._copies)
    assert caches.look_up(M, PromptPrefixes(((5, 1.0),), ())) is None
    reuse = found(caches, PromptPrefixes(((-7, 1.0),), ()))
    assert 8 == sum(reuse.at(f"n{n}") is not None for n in range(20))


class Fleet:
    """Equal nodes, `a` and `b` and perhaps more; decisions are made by hand."""

    def __init__(self, more=()):
        self.now = 0.0
        self.ledger = Ledger(1, lambda: self.now)
        self.estimates = Estimates(self.ledger, lambda: self.now)
        self.ledger.listen(self.estimates.ended)
        nodes = [Node(name, f"http://{name}:1", slots=2) for name in ("a", "b", *more)]
        self.ledger.configure(nodes)
        present = {M: PresentModel(M, "d", 1)}
        resident = {M: ResidentModel(M, "d", 1, 1)}
        views = {
            n.name: NodeView(n, Score(0.5), None, present, resident) for n in nodes
        }
        self.snapshot = Snapshot(views, 0.0)
        self.estimates.look(self.snapshot)
        self.context = RoutingContext(
            self.snapshot, lambda _: (), self.ledger, self.estimates.offers
        )
        for name in "ab":  # speeds: 1,000 tokens/s of prompts, 100 of answers
            self.run(PromptPrefixes(), on=name)

    def ask(self, prefixes, *, tried=()):
        routing = RoutingRequest(
            M, frozenset(tried), traits=Traits(4000), prefixes=prefixes
        )
        return self.estimates.asking(routing, Priority.INTERACTIVE)

    def decide(self, prefixes, *, tried=()):
        asking = self.ask(prefixes, tried=tried)
        return asking, decide(asking, self.context, shortest_completion, self.now)

    def begin(self, prefixes, *, on):
        tried = {"a", "b"} - {on}
        asking, decided = self.decide(prefixes, tried=tried)
        lease = self.ledger.take(on, M)
        self.estimates.began(lease, asking, decided)
        return lease

    def run(self, prefixes, *, on, reading=1.0):
        lease = self.begin(prefixes, on=on)
        self.now += reading
        lease.decoding_since = self.now
        self.now += 1.0
        lease.done(Outcome.END, Timings(1000, 100, reading, 1.0))

    def picked(self, prefixes):
        decided = self.decide(prefixes)[1]
        return decided.picked and decided.picked.name


@pytest.mark.parametrize("node", ["a", "b"])
def test_a_turn_goes_where_the_one_before_was_read(node):
    """Of two equal nodes, the one that has the prompt, by the seconds that it saves."""
    fleet = Fleet()
    fleet.run(CHAT, on=node)
    assert node == fleet.picked(TURN)
    picked = fleet.decide(TURN)[1].picked
    assert picked.expected.saved == pytest.approx(0.9, rel=0.05)
    assert picked.expected.prefill == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("node", ["a", "b"])
def test_it_yields_to_load(node):
    """A node that reads a long prompt now, or is full, is no better for its cache."""
    other = {"a": "b", "b": "a"}[node]
    fleet = Fleet()
    fleet.run(CHAT, on=node)
    fleet.begin(PromptPrefixes(), on=node)
    assert other == fleet.picked(TURN)
    fleet.begin(PromptPrefixes(), on=node)
    assert other == fleet.picked(TURN)


def test_hits_and_misses_are_told_by_the_time_that_reading_took():
    """A hit is learned as one and is no speed; a miss is a miss."""
    fleet = Fleet()
    caches, speed = fleet.estimates.caches, fleet.estimates.prompts.speed("a", M)
    fleet.run(CHAT, on="a")
    fleet.run(TURN, on="a", reading=0.1)
    assert caches.chance("a", M, 0) == pytest.approx(1.0)
    assert speed == fleet.estimates.prompts.speed("a", M)
    for _ in range(10):
        fleet.run(CHAT, on="a")
        fleet.run(TURN, on="a")
    assert caches.chance("a", M, 0) < 0.2
    seen = fleet.estimates.reused_tokens.by_model[M]
    assert seen.actual == pytest.approx(900, rel=0.1)
    assert seen.expected > 2 * seen.actual


def test_wrong_belief_fades():
    """A node that keeps nothing is preferred no longer."""
    fleet = Fleet()
    for _ in range(12):
        fleet.run(CHAT, on="b")
        fleet.run(TURN, on="b")
    picked = fleet.decide(TURN)[1]
    saved = {each.name: each.expected.saved for each in picked.candidates}
    assert saved["b"] < 0.2


def test_of_many_free_nodes_the_one_that_has_it_is_looked_at():
    """It need not be among those that would be the quickest without it."""
    more = [f"n{number}" for number in range(40)]
    fleet = Fleet(more)
    fleet.run(CHAT, on="b", reading=1.2)
    for name in more:
        fleet.run(PromptPrefixes(), on=name)
    usual = fleet.decide(PromptPrefixes())[1].candidates
    assert "b" not in {each.name for each in usual}
    assert "b" == fleet.picked(TURN)
