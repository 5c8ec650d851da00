"""The decisions that are timed are ones that a router makes."""

from __future__ import annotations

import json

from bench.decide import acquire, fleet, main
from router.scheduling.pipeline import RoutingRequest

ROUTING = RoutingRequest("model-0:latest")


def streams(dispatcher):
    return {
        each.name: each.in_flight for each in dispatcher.explain(ROUTING).candidates
    }


def test_fleet_is_warm_and_partly_busy():
    """All nodes are candidates, a third of the slots is taken, speeds are known."""
    decision = fleet(6).explain(ROUTING)

    assert len(decision.candidates) == 6
    assert sum(each.in_flight for each in decision.candidates) == 6 * 4 // 3
    assert decision.picked


def test_a_slot_that_was_taken_is_given_back():
    """Thousands of timed calls must not fill the fleet that they measure."""
    dispatcher = fleet(2)
    before = streams(dispatcher)
    give_back = acquire(dispatcher)
    taken = streams(dispatcher)
    give_back()

    assert taken != before
    assert streams(dispatcher) == before


def test_prints_a_row_for_each_size(tmp_path, capsys):
    """Both acts are timed for each fleet."""
    out = tmp_path / "out.json"
    main(["--nodes", "2", "5", "--calls", "50", "--out", str(out)])

    nodes = json.loads(out.read_text())["nodes"]
    assert set(nodes) == {"2", "5"}
    assert all(0 < nodes["5"][act]["p50_us"] for act in ("decide", "take"))
    assert capsys.readouterr().out.splitlines()[-1].startswith("5 ")
