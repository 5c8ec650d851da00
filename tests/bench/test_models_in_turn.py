"""Models that share nodes: who is loaded where, over minutes of virtual time."""

from __future__ import annotations

from collections import Counter

import pytest

from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.routed import Routed, Setup
from simulator.virtual.workload import Ask

pytestmark = pytest.mark.long

A, B, C = "a:latest", "b:latest", "c:latest"
SECONDS = 200.0
SHORT = Ask(20, 60)  # 0.6 s at 100 tokens/s


def fleet(nodes, *, slots=1, models=1):
    return [
        Spec(f"n{number}", 100, 1000, slots, models, load_seconds=3.0)
        for number in range(nodes)
    ]


class Run:
    """People who ask for models again and again, on nodes that hold none at first."""

    def __init__(self, specs, *people):
        clock = Clock()
        models = sorted({model for model, *_ in people})
        setup = Setup(specs, Scaling.KERNEL, models=models, resident=lambda _: ())
        self.routed = Routed(setup, clock)
        for model, count, *options in people:
            self.routed.people(model, count, SECONDS, SHORT, *options)
        self.routed.poll(SECONDS)
        clock.run()
        self.replies = self.routed.replies

    @property
    def loads(self):
        return sum(node.loads for node in self.routed.nodes.values())

    @property
    def answers(self):
        return Counter(each.ask.model for each in self.replies if not each.failure)

    @property
    def slowest(self):
        return max(each.ended_at - each.ask.at for each in self.replies)


def test_two_models_keep_a_node_each():
    """They do not push each other out, with nothing configured."""
    run = Run(fleet(2), (A, 4), (B, 4))
    pinned = 2 * SECONDS / 0.62
    assert run.loads <= 3
    assert run.answers.total() >= 0.9 * pinned


def test_one_who_asks_seldom_keeps_a_copy():
    """A model in use is not pushed out each time that others have more to do."""
    run = Run(fleet(2), (A, 7), (B, 1))
    assert run.loads <= 12
    assert run.answers[B] > 250


def test_a_model_reloaded_for_its_options_counts_as_another():
    """Two context lengths of one model keep a node each, as two models do."""
    run = Run(fleet(2), (A, 4), (A, 4, "num_ctx=8192"))
    assert run.loads <= 3
    assert run.answers.total() >= 0.9 * 2 * SECONDS / 0.62


def test_more_models_than_room_take_turns():
    """Nobody waits for ever, and most of the time is not spent on loading."""
    run = Run(fleet(2), (A, 3), (B, 3), (C, 3))
    assert min(run.answers.values()) > 0.7 * max(run.answers.values())
    assert run.loads * 3.0 < 0.3 * 2 * SECONDS
    assert run.slowest < 45


def test_two_models_on_one_node_take_turns():
    """The queue of the one is served before the other is loaded."""
    run = Run(fleet(1), (A, 4), (B, 4))
    assert run.loads <= 14
    assert run.answers.total() > 0.75 * SECONDS / 0.62


def test_copies_go_where_the_demand_is():
    """Of four nodes most serve what most people ask for, and nobody is forgotten."""
    run = Run(fleet(4, slots=4), (A, 12), (B, 4))
    assert run.answers[A] > 2 * run.answers[B]
    assert run.loads <= 8
    assert run.slowest < 20


def test_three_models_share_four_places():
    """Models that share a node's slots are served alike, whatever was learned."""
    run = Run(fleet(2, slots=4, models=2), (A, 4), (B, 4), (C, 4))
    assert not [each for each in run.replies if each.failure]
    assert min(run.answers.values()) > 0.4 * max(run.answers.values())
    assert run.slowest < 20


@pytest.mark.parametrize("people", [1, 8])
def test_one_load_where_one_will_do(people):
    """Who comes while it is loaded waits for it, on the node that loads it."""
    run = Run(fleet(2, slots=8), (A, people))
    assert run.loads <= 2
