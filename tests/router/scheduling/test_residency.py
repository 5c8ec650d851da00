"""Which models are in memory, as polls and our own requests tell together."""

from __future__ import annotations

import pytest

from router.capacity.ledger import Ledger
from router.model import Node, Outcome, Score
from router.scheduling.residency import Residency, Standing
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot

GIB = 2**30


class Rig:
    """Nodes that are polled by hand."""

    def __init__(self, *, vram: float | None = None, nodes=("n",)) -> None:
        self.now = 100.0
        self.residency = Residency()
        self.ledger = Ledger(4, lambda: self.now)
        self.vram = vram
        self.ledger.configure(Node(name, f"http://{name}:1", 4) for name in nodes)

    def polled(self, *models: str, node="n") -> list[str]:
        attributes = {} if self.vram is None else {"vram_bytes": self.vram}
        made = Node(node, f"http://{node}:1", 4, attributes)
        present = {m: PresentModel(m, "d", 4 * GIB) for m in ("a", "b", "c", "d")}
        there = {m: ResidentModel(m, "d", 5 * GIB, 5 * GIB) for m in models}
        view = NodeView(made, Score(0.5), None, present, there)
        return self.residency.look(Snapshot({node: view}, self.now), self.now)

    def began(self, model: str, runner: str | None = None):
        lease = self.ledger.take("n", model)
        self.residency.began(lease, runner or model, 5.0, self.now)
        return lease

    def ended(self, lease, outcome=Outcome.END, load_seconds=None) -> None:
        self.residency.ended(lease, outcome, self.now)
        if load_seconds is not None:
            self.residency.reported(lease, load_seconds)

    def standing(self, runner: str) -> Standing:
        return self.residency.standing("n", runner, self.now)


@pytest.fixture
def rig():
    return Rig()


def test_polls_say_what_is_there(rig):
    """A model that is listed is there; another would have to be loaded."""
    assert ["n"] == rig.polled("a")
    assert rig.standing("a") == Standing()
    assert rig.standing("b").cold
    assert 1 == rig.residency.copies["a"]


def test_a_node_that_was_never_polled_is_cold(rig):
    """It may have the model, but nobody knows."""
    assert rig.standing("a").cold


def test_a_load_of_our_own_is_known_at_once(rig):
    """Who comes next waits for it, and starts no other."""
    rig.polled()
    rig.began("a")
    assert rig.standing("a") == Standing(ready_at=105.0)
    assert rig.standing("b").ready_at == 105.0
    assert [] == rig.residency.settle(rig.now)


def test_what_goes_for_a_load_is_gone_at_once(rig):
    """A request for it would push the new one out again."""
    rig.polled("a")
    assert ("a",) == rig.standing("b").victims
    rig.began("b")
    assert rig.standing("a").cold
    assert 0 == rig.residency.copies["a"]


def test_a_poll_from_before_the_load_is_not_believed(rig):
    """It still lists what has gone since."""
    rig.polled("a")
    lease = rig.began("b")
    rig.now += 2
    assert [] == rig.polled("a")
    lease.decoding_since = rig.now = 106.0
    assert rig.standing("b") == Standing()
    assert [] == rig.polled("a")
    rig.now += 20
    assert ["n"] == rig.polled("a", "b")
    assert rig.standing("a") == Standing()


def test_a_load_is_over_with_its_first_token(rig):
    """Or with its reply, where that does not stream."""
    rig.polled()
    lease = rig.began("a")
    lease.decoding_since = rig.now = 103.0
    assert ["n"] == rig.residency.settle(rig.now)
    assert [] == rig.residency.settle(rig.now)
    assert rig.standing("a") == Standing()
    whole = rig.began("b")
    rig.now = 110.0
    rig.ended(whole)
    assert rig.standing("b") == Standing()
    assert [] == rig.residency.settle(rig.now)


def test_a_load_that_failed_left_nothing(rig):
    """What polls say counts again at once."""
    rig.polled("a")
    rig.ended(rig.began("b"), Outcome.REFUSED)
    assert rig.standing("b").cold
    rig.polled("a")
    assert rig.standing("a") == Standing()


def test_the_model_used_longest_ago_goes(rig):
    """Of those that run nothing."""
    rig.polled("a", "b")
    old = rig.began("a")
    rig.now += 1
    rig.ended(old)
    rig.now += 1
    rig.ended(rig.began("b"))
    assert ("a",) == rig.standing("c").victims
    rig.began("a")
    assert rig.standing("c") == Standing(cold=True, victims=("b",))


def test_a_model_in_use_has_to_end_first(rig):
    """And while it does, it is not asked for any more: it would never go."""
    rig.polled("a")
    running = rig.began("a")
    assert rig.standing("b") == Standing(cold=True, victims=("a",), busy=True)
    rig.began("b")
    assert rig.standing("a").leaving
    rig.ended(running)
    assert not rig.standing("a").leaving


def test_as_many_as_were_seen_fit(rig):
    """Where two were there at one time, a second pushes nothing out."""
    rig.polled("a", "b")
    rig.now += 400
    rig.polled("a")
    assert () == rig.standing("b").victims


def test_more_than_a_node_holds_is_found_out(rig):
    """What is gone after a load of ours went for it: the next one knows."""
    rig = Rig(vram=24 * GIB)
    rig.polled("a", "b")
    lease = rig.began("c")
    lease.decoding_since = rig.now = 105.0
    assert rig.standing("c") == Standing()
    rig.now += 10
    rig.polled("b", "c")
    assert rig.standing("d").victims


@pytest.mark.parametrize(("vram", "victims"), [(24 * GIB, ()), (8 * GIB, ("a",))])
def test_memory_that_is_declared_counts(vram, victims):
    """Two models of 5 GiB fit 24, and not 8."""
    rig = Rig(vram=vram)
    rig.polled("a")
    assert victims == rig.standing("b").victims


def test_other_load_options_are_another_model(rig):
    """Ollama loads it anew for them, and the first comers' way of it goes."""
    rig.polled("a")
    assert rig.standing("a\nnum_ctx=8192") == Standing(cold=True, victims=("a",))
    lease = rig.began("a", "a\nnum_ctx=8192")
    lease.decoding_since = rig.now
    assert rig.standing("a\nnum_ctx=8192") == Standing()
    assert rig.standing("a").victims == ("a\nnum_ctx=8192",)


def test_options_that_change_nothing_are_the_default():
    """A request that names the context length that the model has loads nothing."""
    rig = Rig()
    rig.polled("a")
    named = "a\nnum_ctx=4096"
    lease = rig.began("a", named)
    assert named == rig.residency.same_as(named)
    rig.ended(lease, load_seconds=0.02)
    assert "a" == rig.residency.same_as(named)
    assert rig.standing("a") == Standing()


def test_options_that_loaded_after_all_are_others():
    """The model may have been made anew, with another default."""
    rig = Rig()
    rig.polled("a")
    named = "a\nnum_ctx=4096"
    rig.ended(rig.began("a", named), load_seconds=0.02)
    rig.ended(rig.began("a", rig.residency.same_as(named)), load_seconds=3.0)
    assert named == rig.residency.same_as(named)


def test_a_node_that_left_holds_nothing(rig):
    """Its copies do not count any more."""
    rig.polled("a")
    rig.polled("a", node="other")
    assert 1 == rig.residency.copies["a"]
    assert rig.standing("a").cold


def test_a_model_that_expired_is_gone(rig):
    """Ollama unloads what was idle for five minutes; a poll shows it."""
    rig.polled("a")
    rig.now += 300
    assert ["n"] == rig.polled()
    assert rig.standing("a") == Standing(cold=True)
