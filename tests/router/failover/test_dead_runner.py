"""The first sign of a dead runner speaks for everybody who is older on it."""

from __future__ import annotations

from collections import Counter

import pytest

from router.capacity.ledger import Ledger
from router.failover.dead_runner import DIED, DeadRunners
from router.failover.liveness import Inquiry, Liveness, SilenceLimits
from router.model import Node, Outcome, Score, Timings
from router.snapshot import NodeView, Published, ResidentModel, Snapshot
from tests.router.control.fakes import Clock
from tests.router.failover.stage import Running

MODEL, OTHER = "m:latest", "other:latest"
TOLD = "n: an error was encountered while running the model: unexpected EOF"


class Scene:
    """Two streams of one model on a node, and one of another."""

    def __init__(self):
        self.clock = Clock(100.0)
        self.ledger = Ledger(8, self.clock)
        self.ledger.configure([Node(name, f"http://{name}:1") for name in "nb"])
        self.published = Published(Snapshot(dict(map(view, "nb")), 0.0))
        self.published_times: Counter[str] = Counter()
        self.published.listen(lambda: self.published_times.update(["times"]))
        self.counted: Counter[tuple[str, str]] = Counter()
        self.runs = True
        self.meanwhile = lambda: None
        liveness = Liveness(
            Inquiry(lambda _: True),
            self.ledger,
            self,
            SilenceLimits(600.0, 120.0),
            clock=self.clock,
        )
        self.runners = DeadRunners(
            self.ledger,
            self.published,
            liveness,
            self,
            runs=self.asked_for,
            clock=self.clock,
            spawn=lambda call, *given: call(*given),
        )
        self.told, self.older = self.begin(), self.begin()
        self.beside, self.away = self.begin(model=OTHER), self.begin(node="b")

    def begin(self, node="n", model=MODEL):
        self.clock.now += 1.0
        lease = self.ledger.take(node, model)
        lease.reply = Running()
        return lease

    def take(self, lease, *, answered):
        raise AssertionError("nothing is moved")

    def runner_died(self, node, model):
        self.counted[node, model] += 1

    def asked_for(self, node, model):
        self.meanwhile()
        return self.runs

    def loaded(self, node="n"):
        return set(self.published.current.nodes[node].resident or ())


def view(name):
    resident = {m: ResidentModel(m, "d", 1, 1) for m in (MODEL, OTHER)}
    return name, NodeView(Node(name, f"http://{name}:1"), Score(0.5), resident=resident)


@pytest.fixture
def scene():
    return Scene()


def test_who_is_older_on_the_runner_is_ended(scene):
    """Other models and other nodes have runners of their own."""
    scene.runners.note(scene.told, TOLD)
    assert [DIED] == scene.older.reply.ended
    assert [] == scene.beside.reply.ended + scene.away.reply.ended
    assert {("n", MODEL): 1} == scene.counted


@pytest.mark.parametrize(
    "text",
    [
        "model runner has unexpectedly stopped, this may be due to resource",
        "llama runner process has terminated: signal: killed",
        "llama-server process has terminated: exit status 0xc0000409",
        "an error was encountered while running the model: CUDA error",
        "error reading llm response: read tcp: connection reset by peer",
        'do embedding request: Post "http://127.0.0.1:1/embedding": EOF',
        DIED,
    ],
)
def test_words_of_a_dead_runner(scene, text):
    """As releases have them, whatever is before or behind."""
    scene.runners.note(scene.told, f"n: {text}")
    assert [DIED] == scene.older.reply.ended


@pytest.mark.parametrize(
    "text", ["model requires more system memory", "invalid options", "timed out"]
)
def test_other_words_end_nobody(scene, text):
    """A node that cannot do one thing may be doing others well."""
    scene.runners.note(scene.told, f"n: {text}")
    assert [] == scene.older.reply.ended


def test_the_model_counts_as_not_loaded_until_it_spoke(scene):
    """`/api/ps` goes on listing it, so each snapshot is corrected."""
    scene.runners.note(scene.told, TOLD)
    assert ({OTHER}, {MODEL, OTHER}) == (scene.loaded(), scene.loaded("b"))
    scene.published.publish(Snapshot(dict(map(view, "nb")), 1.0))
    assert {OTHER} == scene.loaded()
    later = scene.begin()
    scene.runners.spoke(later)
    assert {MODEL, OTHER} == scene.loaded()


def test_what_was_sent_before_the_death_proves_nothing(scene):
    """Its first line may have crossed the sign."""
    scene.runners.note(scene.told, TOLD)
    scene.runners.spoke(scene.older)
    assert {OTHER} == scene.loaded()


@pytest.mark.parametrize(
    ("outcome", "timings", "loaded"),
    [
        (Outcome.END, Timings(prompt_tokens=3), True),
        (Outcome.END, Timings(), False),
        (Outcome.END, None, False),
        (Outcome.CLIENT_GONE, Timings(generated_tokens=3), False),
    ],
    ids=["a reply", "no tokens", "untold", "a client that left"],
)
def test_a_reply_in_one_piece_proves_it_loaded(scene, outcome, timings, loaded):
    """One that says of itself that it was generated."""
    scene.runners.note(scene.told, TOLD)
    scene.begin().done(outcome, timings)
    assert loaded is (MODEL in scene.loaded())


def test_several_signs_of_one_death_count_once(scene):
    """Some releases tell more than one request."""
    scene.runners.note(scene.told, TOLD)
    scene.runners.note(scene.older, TOLD)
    assert {("n", MODEL): 1} == scene.counted


@pytest.mark.parametrize("runs", [True, False])
def test_an_end_without_a_word_is_asked_about(scene, runs):
    """A model that repeats itself ends so as well, and its runner lives."""
    scene.runs = runs
    scene.runners.doubt(scene.told)
    assert ([] if runs else [DIED]) == scene.older.reply.ended


def test_a_busy_runner_is_not_taken_for_a_dead_one(scene):
    """It may not answer in time; what it says to others meanwhile is answer enough."""

    def moves():
        scene.older.reply.mark += 1

    scene.runs, scene.meanwhile = False, moves
    scene.runners.doubt(scene.told)
    assert [] == scene.older.reply.ended


def test_nobody_is_asked_about_where_nobody_else_runs(scene):
    """A question would load the model for nothing."""
    scene.older.done(Outcome.END)
    scene.meanwhile = lambda: pytest.fail("asked")
    scene.runners.doubt(scene.told)


def test_a_late_word_on_the_same_death(scene):
    """Who was sent there after the first word is on another runner, and stays."""
    scene.runners.note(scene.told, TOLD)
    later = scene.begin()
    scene.runners.note(scene.older, TOLD)
    assert [] == later.reply.ended
    scene.runners.note(later, TOLD)
    assert 1 == scene.counted["n", MODEL], "it has not spoken between the two"
