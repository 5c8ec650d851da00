"""Speeds come from the ledger's replies, people's as well."""

from __future__ import annotations

import pytest

from router.capacity.ledger import Ledger
from router.jobs.planning.speeds import LearnedSpeeds
from router.model import Node, Outcome, Score, Timings
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot
from tests.router.control.fakes import Clock
from tests.router.jobs.fleet import MODEL

OTHER = "other:latest"


@pytest.fixture
def clock():
    return Clock(100.0)


@pytest.fixture
def ledger(clock):
    return Ledger(2, clock)


@pytest.fixture
def speeds(ledger, clock):
    present = {name: PresentModel(name, "0", 3_000_000_000) for name in (MODEL, OTHER)}
    resident = {MODEL: ResidentModel(MODEL, "0", 3_000_000_000, 3_000_000_000)}
    node = Node("a", "http://a:11434", slots=2)
    view = NodeView(node, Score(0.5), present=present, resident=resident)
    snapshot = Snapshot({"a": view}, made_at=0.0)
    ledger.configure([node])
    return LearnedSpeeds(ledger, lambda: snapshot, clock)


def reply(ledger, clock, *, tokens: int = 200, seconds: float = 4.0) -> None:
    lease = ledger.take("a", MODEL)
    clock.now += seconds + 1
    lease.done(Outcome.END, Timings(1000, tokens, 1.0, seconds))


def test_unknown_at_first(speeds):
    """Before the first reply nothing is known, and nothing is made up."""
    assert speeds.tokens_per_second("a", MODEL, 1) is None
    assert speeds.prompt_tokens_per_second("a", MODEL) is None
    assert speeds.worthwhile("a", MODEL) == 2
    assert speeds.nodes() == {"a": 2}


def test_a_reply_teaches(speeds, ledger, clock):
    """One reply tells how fast the node reads and writes."""
    reply(ledger, clock)

    assert speeds.tokens_per_second("a", MODEL, 1) == pytest.approx(50)
    assert speeds.prompt_tokens_per_second("a", MODEL) == pytest.approx(1000)


def test_what_the_ledger_remembers_counts(ledger, clock, speeds):
    """After a restart the ledger's curves are there, and its replies are not."""
    reply(ledger, clock)
    again = LearnedSpeeds(ledger, lambda: Snapshot({}, made_at=0.0), clock)

    assert again.tokens_per_second("a", MODEL, 1) == pytest.approx(50)


def test_in_vain(speeds, ledger, clock):
    """What was taken away shows how long the node had it; a reply ends the doubt."""
    lease = ledger.take("a", MODEL)
    clock.now += 30
    lease.done(Outcome.CLIENT_GONE)
    assert speeds.in_vain("a", MODEL) == 30

    reply(ledger, clock)
    assert speeds.in_vain("a", MODEL) == 0


def test_what_was_in_vain_is_forgotten(speeds, ledger, clock):
    """A node that died in its first second is soon like any other."""
    for seconds in (0.2, 30.0):
        lease = ledger.take("a", MODEL)
        clock.now += seconds
        lease.done(Outcome.EOF)
        clock.now += 9 * seconds
        assert speeds.in_vain("a", MODEL) == pytest.approx(seconds)
        clock.now += 2 * seconds
        assert speeds.in_vain("a", MODEL) == 0


def test_loading(speeds):
    """What is not in memory must be read from disk; a node unknown costs nothing."""
    assert speeds.load_seconds("a", MODEL) == 0
    assert speeds.load_seconds("a", OTHER) == pytest.approx(4.5)
    assert speeds.load_seconds("b", MODEL) == 0


def test_streams(speeds, ledger):
    """All that runs counts, whoever asked for it."""
    ledger.take("a", OTHER)

    assert speeds.streams("a") == 1
