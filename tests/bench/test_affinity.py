"""What knowing the nodes' prompt caches is worth, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bench.affinity import Conversing, main
from simulator.virtual.node import Caching, Scaling
from simulator.virtual.traffic import CONVERSATIONS, Traffic

pytestmark = pytest.mark.long


@pytest.mark.parametrize("shape", CONVERSATIONS)
def test_conversations(shape):
    """Each prompt holds what was said before; another rate makes pauses no shorter."""
    traffic = Traffic.of(shape)
    spans = []
    for rate in (0.5, 8.0):
        asks = traffic.draw(rate, 1500, 3)
        assert len(asks) == 1500
        turns: dict[int, list] = {}
        for ask in asks:
            turns.setdefault(ask.session, []).append(ask)
        pauses = []
        for session in turns.values():
            for before, ask in pairwise(session):
                assert ask.old == before.prompt + before.tokens < ask.prompt
                pauses.append(ask.at - before.at)
        spans.append(sum(pauses) / len(pauses))
    assert spans[0] == pytest.approx(spans[1], rel=0.2)


def test_agents_read_less_with_it():
    """First tokens come clearly sooner, on equal nodes that are half used."""
    cell = ("agents", "equal-8", Scaling.H200, 0.5, Caching.FIRST, 1, 800)
    without, ours = (Conversing(*cell, affinity=on)() for on in (False, True))
    assert ours.first_p50 < 0.7 * without.first_p50
    assert ours.p95 < 1.05 * without.p95


def test_the_table(capsys):
    """It runs as its page says."""
    main(["--traffic", "agents", "--loads", "0.5", "--seeds", "1", "--requests", "100"])
    shown = capsys.readouterr().out
    assert "agents, mixed-8, h200-2026-11, 0.5, the first" in shown
