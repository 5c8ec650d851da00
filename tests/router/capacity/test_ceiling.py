"""A ceiling that nobody configured is learned by careful probes."""

from __future__ import annotations

from collections import deque

import pytest

from router.capacity.ceiling import runs_alone
from router.capacity.external_load import Evidence
from router.capacity.ledger import Ledger
from router.model import Node, Outcome, Score, Timings
from router.snapshot import NodeView, PresentModel, Snapshot
from tests.harness.virtual_ollama import VirtualOllama

M, OTHER = "m:latest", "other:latest"


@pytest.fixture
def node():
    """Three slots, of which the router knows nothing; it served a request before."""
    made = VirtualOllama(parallel=3)
    made.serve(made.send(M, tokens=50))
    return made


@pytest.mark.parametrize("kind", ["stream", "whole", "v1"])
@pytest.mark.parametrize("parallel", [1, 2, 4, 8])
def test_under_pressure_the_right_ceiling_within_a_minute(kind, parallel):
    """From nothing, while others wait, whatever kind of reply is asked for."""
    node = VirtualOllama(parallel=parallel, kind=kind)
    node.ledger.pressed = True
    node.run(60.0, tokens=150)
    assert node.ledger.ceiling("n", M) == parallel
    assert node.most_running == parallel


@pytest.mark.parametrize("kind", ["stream", "whole", "v1"])
@pytest.mark.parametrize("tokens", [10, 1000], ids=["short", "long"])
def test_never_above_what_the_node_runs(kind, tokens):
    """For an hour under pressure; replies may be shorter than a probe can tell."""
    node = VirtualOllama(parallel=2, kind=kind)
    node.ledger.pressed = True
    node.run(3600.0 if tokens == 1000 else 300.0, tokens=tokens)
    assert node.ledger.ceiling("n", M) <= 2
    assert node.most_waiting <= 1, "a probe is one request"


def test_wrong_probes_become_rare(node):
    """One a minute after the first refuted one, twice as seldom each time."""
    node.parallel = 1
    node.ledger.pressed = True
    node.run(3600.0, tokens=300)
    assert node.ledger.ceiling("n", M) == 1
    assert node.waited <= 8


def test_a_probe_beside_long_answers_is_judged_by_its_first_token(node):
    """Nobody waits for an answer's end to know that there is another slot."""
    node.send(M, tokens=100_000)
    probe = node.send(M, tokens=100_000)
    assert probe is not None
    node.pass_time(3.0)
    assert not node.ledger.may_try_one_more("n", OTHER)
    assert node.ledger.may_try_one_more("n", M)
    assert node.ledger.ceiling("n", M) == 2


def test_a_late_router_proves_nothing():
    """An end that it sees late, because it was busy, is dated by the node's times."""
    node = VirtualOllama(parallel=1, kind="stream", lag=0.9)
    node.ledger.pressed = True
    node.run(600.0, tokens=60)
    assert node.ledger.ceiling("n", M) == 1


@pytest.mark.parametrize("kind", ["stream", "whole"])
def test_who_was_sent_with_a_probe_may_be_the_one_that_waits(kind):
    """A slot frees up for one request, and a probe goes with it and is let in first."""
    node = VirtualOllama(parallel=2, kind=kind)
    node.serve(node.send(M, tokens=50))
    node.ledger.ceiling_search.recall({("n", M): 2})
    node.send(M, tokens=5_000)
    node.pass_time(2.0)
    regular, probe = node.send(M, tokens=200), node.send(M, tokens=200)
    assert regular is not None
    assert probe is not None
    node.running.remove(regular)
    regular.admitted = None
    node.waiting = deque([regular])
    probe.admitted = node.now
    node.running.append(probe)
    node.pass_time(30.0)
    assert not node.ledger.leases("n")[1:], "both have ended"
    assert node.ledger.ceiling("n", M) == 2


@pytest.mark.parametrize("kind", ["stream", "whole"])
def test_both_begin_at_once(kind):
    """Then the probe proves its slot, though nobody knew when it was sent."""
    node = VirtualOllama(parallel=3, kind=kind)
    node.serve(node.send(M, tokens=50))
    node.ledger.ceiling_search.recall({("n", M): 2})
    node.send(M, tokens=5_000)
    node.pass_time(2.0)
    assert node.send(M, tokens=200)
    assert node.send(M, tokens=200)
    node.pass_time(30.0)
    assert node.ledger.ceiling("n", M) == 3


@pytest.mark.parametrize("case", ["configured", "free", "unknown model", "suspected"])
def test_when_no_probe_is_made(node, case):
    """Never beyond what is configured, never without need, never in doubt."""
    ledger = node.ledger
    if case == "configured":
        ledger.configure([Node("n", "http://n:1", slots=1)])
    if case != "free":
        ledger.take("n", M)
    if case == "suspected":
        ledger._external.suspect("n", Evidence.EXPIRY, node.now)
    model = OTHER if case == "unknown model" else M
    assert not ledger.may_try_one_more("n", model)


def test_a_lost_probe_says_nothing(node):
    """A client that leaves during it neither proves nor refutes."""
    first = node.ledger.take("n", M)
    node.ledger.take_one_more("n", M).done(Outcome.CLIENT_GONE)
    assert node.ledger.slots("n") == 1
    node.pass_time(1.0)
    assert node.ledger.may_try_one_more("n", M)
    first.done(Outcome.END)


def test_a_node_that_shrank_is_found_out(node):
    """Requests that wait for each other take the slots back, and accuse nobody."""
    node.ledger.pressed = True
    node.run(30.0, tokens=150)
    assert node.ledger.ceiling("n", M) == 3
    node.parallel = 1
    node.run(60.0, tokens=150)
    assert node.ledger.ceiling("n", M) == 1
    assert node.ledger.external("n") is None


def test_short_waits_add_up(node):
    """A ceiling that is one too high makes each reply wait a little."""
    node.ledger.ceiling_search.recall({("n", M): 4})
    node.ledger.pressed = True
    node.run(30.0, tokens=60)
    assert node.ledger.ceiling("n", M) == 3


def test_each_model_has_its_own(node):
    """What one model showed is not taken to hold for another."""
    node.ledger.pressed = True
    node.run(30.0, tokens=150)
    node.serial = {OTHER}
    node.run(60.0, tokens=150, model=OTHER)
    node.pass_time(60.0)
    assert (3, 1) == tuple(node.ledger.ceiling("n", m) for m in (M, OTHER))
    node.send(M, tokens=300)
    assert node.ledger.room("n", OTHER) == 1, "one of each may run"
    node.send(OTHER, tokens=300)
    assert node.ledger.room("n", OTHER) is None
    assert node.ledger.room("n", M) == 2


def listing(family: str = "llama", capabilities: list[str] | None = None):
    told = {"details": {"family": family, "families": [family]}}
    return told if capabilities is None else {**told, "capabilities": capabilities}


@pytest.mark.parametrize(
    ("entry", "alone"),
    [
        (listing(), False),
        (listing("qwen2", ["completion", "tools"]), False),
        (listing("mllama"), True),
        (listing("qwen3vlmoe", ["completion", "vision"]), True),
        (listing("nemotron_h_moe"), True),
        (listing("qwen3", ["embedding"]), True),
        (listing("nomic-bert"), True),
        (listing("gemma3", []), False),
        ({}, False),
        ({"details": None, "capabilities": "all"}, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_families_that_run_alone(entry, alone):
    """Read from `/api/tags` as older and newer nodes answer it."""
    assert alone is runs_alone(entry)


@pytest.mark.parametrize("slots", [None, 4], ids=["learned", "configured"])
def test_a_model_that_runs_alone_is_never_probed(slots):
    """Whatever `__slots` says, and beside another model it has its place."""
    ledger = Ledger(1, lambda: 0.0)
    node = Node("n", "http://n:1", slots=slots)
    ledger.configure([node])
    present = {OTHER: PresentModel(OTHER, "d", 1, listing("qwen3vl"))}
    view = NodeView(node, Score(1.0), present=present)
    ledger.look(Snapshot({"n": view}, 0.0))
    ledger.ceiling_search.recall({("n", M): 4})
    ledger.take("n", M)
    assert ledger.room("n", OTHER) == 1
    ledger.take("n", OTHER).decoding_since = -10.0
    assert ledger.room("n", OTHER) is None
    assert not ledger.may_try_one_more("n", OTHER)
    assert ledger.limit("n", OTHER) == 1


def test_a_continued_answer_neither_probes_nor_accuses(node):
    """It was proven and loaded before its first token: that is no wait."""
    lease = node.ledger.take("n", M)
    lease.continued = True
    node.pass_time(20.0)
    lease.done(Outcome.END, Timings(100, 100, 0.1, 2.0))
    assert node.ledger.external("n") is None
    assert node.ledger.speed("n", M) is not None
