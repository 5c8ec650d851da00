"""What is moved off a node, when, and what is left where it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from router.capacity.ledger import Ledger
from router.failover.eviction import Evictor
from router.model import Hold, HoldKind, HoldState, Node, Override
from tests.router.control.fakes import Clock, cordon, drain, store
from tests.router.failover.stage import Running

MODEL, RARE = "m:latest", "rare:latest"


def evict(**changes):
    return replace(drain(), kind=HoldKind.EVICT, **changes)


DOWN = Hold("rig", HoldKind.DOWN, "probe", "no answer within 2 s", 1_000.0)


class Scene:
    """A node with three requests under way: a stream, one unanswered, a rare one."""

    def __init__(self):
        self.clock = Clock()
        self.holds = store(self.clock, panic_ratio=0.5)
        self.holds.fleet(["rig", "b", "c"])
        self.ledger = Ledger(4, self.clock)
        self.ledger.configure([Node("rig", "http://rig:1", slots=4)])
        self.counted: Counter[str] = Counter()
        self.stream, self.silent = Running(), Running(answered=False)
        self.rare = Running()
        for reply, model in (
            (self.stream, MODEL),
            (self.silent, MODEL),
            (self.rare, RARE),
        ):
            self.ledger.take("rig", model).reply = reply
        self.ledger.take("rig", MODEL)  # not sent yet
        self.asked = lambda lease: None
        self.evictor = Evictor(
            self.holds,
            self.ledger,
            self,
            self.counted_up,
            spawn=lambda call, *given: call(*given),
        )

    def take(self, lease, *, answered):
        assert answered == lease.reply.answered
        self.asked(lease)
        return lease.model != RARE

    def counted_up(self, node, requests):
        self.counted[node] += requests

    def moved(self):
        return (self.stream.moved, self.silent.moved, self.rare.moved)


@pytest.fixture
def scene():
    return Scene()


def test_what_another_node_can_take_is_moved(scene):
    """The model that only this node has stays: a slow end beats none."""
    scene.holds.place(evict())
    scene.evictor.after_pass()
    assert scene.moved() == (1, 1, 0)
    assert scene.counted == {"rig": 2}


def test_nothing_is_moved_before_the_pass_is_over(scene):
    """By then it is known whether it is panic."""
    scene.holds.place(evict())
    scene.evictor.after_change()
    assert scene.moved() == (0, 0, 0)


@pytest.mark.parametrize(
    "hold",
    [
        evict(state=HoldState.PROVISIONAL, until=1_060.0),
        drain(),
        cordon(),
        replace(DOWN, source="traffic"),
    ],
    ids=["a ring", "a drain", "a cordon", "a refused connection"],
)
def test_other_holds_let_work_end(scene, hold):
    """Only a confirmed evict moves streams."""
    scene.holds.place(hold)
    scene.evictor.after_pass()
    scene.evictor.after_change()
    assert scene.moved() == (0, 0, 0)


def test_panic_moves_nothing(scene):
    """One bad expression must not tear every stream from its node."""
    for node in ("rig", "b"):
        scene.holds.place(evict(node=node, labels={"node": node}))
    assert scene.holds.panic
    scene.evictor.after_pass()
    assert scene.moved() == (0, 0, 0)


def test_an_overridden_evict_moves_nothing(scene):
    """The operator's word counts here too."""
    scene.holds.place(evict())
    word = Override("rig", "GpuTooHot", "operator:ann", "", 1_000.0, 2_000.0)
    scene.holds.override(word)
    scene.evictor.after_pass()
    assert scene.moved() == (0, 0, 0)


def test_nobody_waits_for_a_node_that_hangs(scene):
    """What has no answer is moved at once; streams have their own stall limit."""
    scene.holds.place(DOWN)
    scene.evictor.after_change()
    assert scene.moved() == (0, 1, 0)


def test_a_request_that_the_node_takes_is_left(scene):
    """Polls may fail beside a large body on a slow link; the node is at work."""
    scene.silent.moves = True
    scene.holds.place(DOWN)
    scene.evictor.after_change()
    assert scene.moved() == (0, 0, 0)


def test_what_binds_its_node_is_left(scene):
    """Nobody is even asked whether they would take it."""
    scene.stream.movable = False
    scene.holds.place(evict())
    scene.evictor.after_pass()
    assert scene.moved() == (0, 1, 0)


def test_a_request_that_answered_meanwhile_is_left(scene):
    """Whether a stream may go on is another question; the next pass asks it."""

    def begins_to_answer(lease):
        if lease.reply is scene.silent:
            scene.silent.answered = True

    scene.asked = begins_to_answer
    scene.holds.place(evict())
    scene.evictor.after_pass()
    assert scene.moved() == (1, 0, 0)
