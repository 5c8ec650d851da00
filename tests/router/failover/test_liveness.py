"""When a silent node counts as dead, by what was found out while it was silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.capacity.ledger import Ledger
from router.failover.liveness import (
    Inquiry,
    Liveness,
    NodeSilence,
    SilenceLimits,
    is_lost,
)
from router.model import Node, Outcome, Timings
from router.runtime.cancellation import Cancellation
from tests.router.control.fakes import Clock
from tests.router.failover.stage import Running

MODEL, OTHER = "m:latest", "other:latest"
DEAD = NodeSilence(20.0, answers=False)
ALIVE = replace(DEAD, answers=True)
PLAIN = {"words_due": True}


@pytest.mark.parametrize(
    ("silence", "lost"),
    [
        (replace(DEAD, seconds=9.9), False),
        (DEAD, True),
        (replace(DEAD, others_move=True), False),
        (ALIVE, False),
        (replace(ALIVE, stuck_before=True), True),
        (replace(ALIVE, stuck_before=True, others_move=True), False),
        (replace(ALIVE, seconds=40.0), True),
        (replace(ALIVE, seconds=40.0, others_move=True), False),
        (replace(ALIVE, **PLAIN), True),
        (replace(ALIVE, **PLAIN, others_move=True), True),
        (replace(ALIVE, **PLAIN, read_beside=True), False),
        (replace(ALIVE, **PLAIN, read_beside=True, seconds=40.0), True),
        (replace(DEAD, **PLAIN, read_beside=True), True),
    ],
    ids=[
        "within the limit",
        "no answer",
        "no answer, but others are served",
        "it answers",
        "it answers, but plain text stood still",
        "that, and others are served again",
        "longer than any reply",
        "longer than any reply, and others are served",
        "plain text on a node that answers",
        "plain text beside others that go on",
        "plain text beside a prompt",
        "plain text beside a prompt without end",
        "plain text beside a prompt on a dead node",
    ],
)
def test_silence_is_death_only_where_words_are_due(silence, lost):
    """The limit is 10 s, and a sign of life excuses 40 s."""
    assert lost is is_lost(silence, 10.0, 40.0)


class Reply(Running):
    """It is watched, too."""

    sending, moved_at, presentable = False, 0.0, False


class Scene:
    """One node with a request under way; what is asked of it is answered at once."""

    def __init__(self):
        self.clock = Clock(0.0)
        self.ledger = Ledger(4, self.clock)
        self.ledger.configure([Node("n", "http://n:1", slots=4)])
        self.alive = self.elsewhere = True
        self.asked = 0
        self.liveness = Liveness(
            Inquiry(self.ask, spawn=lambda call, *given: call(*given)),
            self.ledger,
            self,
            SilenceLimits(600.0, 120.0),
            clock=self.clock,
            spawn=lambda call: call(),
        )
        self.cancellation = Cancellation()
        self.lease, self.reply = self.begin()

    def begin(self, model=MODEL, **traits):
        lease = self.ledger.take("n", model)
        lease.reply = reply = Reply(**traits)
        return lease, reply

    def ask(self, node):
        self.asked += 1
        return self.alive

    def take(self, lease, *, answered):
        return self.elsewhere

    def learn_speed(self, tokens_per_second):
        """Have a reply tell the speed of one stream, beside one that has begun."""
        self.lease.decoding_since = self.clock.now
        lease = self.ledger.take("n", MODEL)
        self.clock.now += 1.0
        told = Timings(generated_tokens=int(tokens_per_second), generate_seconds=1.0)
        lease.done(Outcome.END, told)

    def stream(self, *, plain):
        return self.liveness.stream(self.lease, self.cancellation, plain=plain)

    def lost_after(self, watch, most=400.0, *, meanwhile=lambda: None):
        """Return when the watch gives the node up, looking as often as it wants."""
        began = self.clock.now
        while self.clock.now - began < most:
            meanwhile()
            if watch.lost(self.clock.now - began):
                return self.clock.now - began
            self.clock.now += watch.step_seconds
        return None


@pytest.fixture
def scene():
    return Scene()


def test_plain_text_must_come_at_the_pace_of_its_node(scene):
    """300 tokens' time, 5 s at least: a node that answers questions is no better."""
    scene.learn_speed(100)
    lost = scene.lost_after(scene.stream(plain=True))
    assert 5.0 <= lost <= 6.25


def test_a_frozen_node_is_found_as_soon(scene):
    """Asking goes on while the limit passes, and costs no time of its own."""
    scene.learn_speed(100)
    scene.alive = False
    assert 5.0 <= scene.lost_after(scene.stream(plain=True)) <= 6.25


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "tools"])
def test_nothing_is_cut_where_nowhere_is_better(scene, plain):
    """The client, or its own limit, says when it has waited enough."""
    scene.alive = scene.elsewhere = False
    assert scene.lost_after(scene.stream(plain=plain), 3600.0) is None
    scene.elsewhere = True
    assert scene.lost_after(scene.stream(plain=plain), 3600.0)


def test_a_prompt_beside_a_stream_excuses_its_silence(scene):
    """Up to four times as long, and as long as a stream may be silent at all."""
    scene.learn_speed(100)
    scene.begin(answered=False)
    watch = scene.stream(plain=True)
    assert 120.0 <= scene.lost_after(watch) <= 122.5


def test_an_old_prompt_beside_excuses_nothing(scene):
    """A reply in one piece has no answer either, and keeps nobody from speaking."""
    scene.learn_speed(100)
    scene.begin(answered=False)
    scene.clock.now += 60.0
    assert scene.lost_after(scene.stream(plain=True)) <= 6.25


def test_tools_may_be_silent_while_the_node_answers(scene):
    """A call of 20,000 tokens is longer than any; before that only death ends it."""
    scene.learn_speed(50)
    longest = 20_000 / scene.ledger.speed("n", MODEL)
    lost = scene.lost_after(scene.stream(plain=False), 1000.0)
    assert longest <= lost <= longest + 60.0


def test_tools_on_a_node_of_unknown_speed(scene):
    """Nobody knows how long they may take; a node that falls silent is still found."""
    watch = scene.stream(plain=False)
    assert scene.lost_after(watch, 5000.0) is None
    scene.alive = False
    assert 120.0 <= scene.lost_after(scene.stream(plain=False)) <= 150.0


def test_others_that_are_served_prove_a_node_alive(scene):
    """It may be too busy to answer a question in time."""
    _, other = scene.begin(OTHER)
    scene.alive = False

    def moves():
        other.mark += 1

    assert scene.lost_after(scene.stream(plain=False), 3600.0, meanwhile=moves) is None


def test_plain_text_that_stood_still_speaks_for_the_rest(scene):
    """A runner that died and told nobody: tools on it wait no longer than a stall."""
    scene.learn_speed(100)
    tools, _ = scene.begin()
    watch = scene.liveness.stream(tools, Cancellation(), plain=False)
    began = scene.clock.now
    assert scene.lost_after(scene.stream(plain=True)) <= 6.25
    while not watch.lost(scene.clock.now - began):
        scene.clock.now += watch.step_seconds
    assert scene.clock.now - began <= 150.0


class Waits(Cancellation):
    """Lets the clock pass instead of waiting; `most` ends it all."""

    def __init__(self, most, meanwhile=lambda: None):
        super().__init__()
        self.most, self.meanwhile = most, meanwhile

    def until(self, ready, deadline, clock):
        clock.now = deadline
        self.meanwhile()
        return ready() or deadline >= self.most


def wait_for(scene, most, meanwhile=lambda: None):
    """Let a request without an answer wait; returns why it gave up, or None."""
    cancellation = Waits(most, meanwhile)
    return scene.liveness.wait(scene.lease, scene.reply, cancellation)


def test_a_reply_in_one_piece_may_take_its_time(scene):
    """Its first byte is its last one: the limit is for a node that is gone."""
    scene.reply.answered = False
    assert wait_for(scene, 7200.0) is None
    assert scene.asked >= 10


def test_a_request_leaves_a_node_that_is_gone(scene):
    """After its limit without a first byte, and where another may take it."""
    scene.reply.answered, scene.alive = False, False
    assert wait_for(scene, 7200.0).startswith("said nothing for 6")


def test_a_request_goes_out_as_slowly_as_it_is_taken(scene):
    """A slow link is no dead one; a node that takes no byte more is."""
    scene.reply.sending = True

    def taken():
        if scene.clock.now < 3600.0:
            scene.reply.moved_at = scene.clock.now - 60.0

    why = wait_for(scene, 9000.0, taken)
    assert why.startswith("took no more of the request for 1")
    assert scene.clock.now < 3600.0 + 300.0
