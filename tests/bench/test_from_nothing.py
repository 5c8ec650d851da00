"""Ceilings of a whole fleet whose `__slots` nobody told, under pressure."""

from __future__ import annotations

import pytest

from bench.scheduling import FLEETS
from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling
from simulator.virtual.routed import MODEL, Routed, Setup
from simulator.virtual.traffic import Traffic

FLEET = FLEETS["mixed-8"]
SLOTS = {spec.name: 4 for spec in FLEET}


def ceilings(scaling: Scaling, load: float, seconds: int) -> dict[int, dict[str, int]]:
    """Return what each node's was taken for, second by second."""
    traffic = Traffic.of("chat")
    rate = load * traffic.saturation(FLEET, scaling)
    asks = traffic.draw(rate, int(rate * seconds), seed=1)
    clock = Clock()
    routed = Routed(Setup(FLEET, scaling, slots_given=False), clock)
    seen: dict[int, dict[str, int]] = {}

    def look() -> None:
        seen[round(clock.now)] = {
            name: routed.ledger.ceiling(name, MODEL) for name in SLOTS
        }

    for second in range(1, seconds):
        clock.at(second, look)
    routed.run(asks)
    return seen


@pytest.mark.parametrize("scaling", [Scaling.H200, Scaling.KERNEL])
def test_each_node_within_a_minute(scaling):
    """More requests than the fleet can take: they are what ceilings are tried with."""
    assert SLOTS == ceilings(scaling, 1.2, 80)[60]


def test_none_above_what_a_node_runs():
    """Where a slot frees up for one request, and a second is sent with it as a probe.

    Which of the two waits in the node cannot be told at once.
    """
    seen = ceilings(Scaling.KERNEL, 0.95, 120)
    assert 4 == max(max(each.values()) for each in seen.values())
