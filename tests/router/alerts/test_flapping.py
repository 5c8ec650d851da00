"""Returns that come too often: what each costs, and how many there can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.alerts.flapping import Flapping, FlapPolicy
from router.holds.record import AuditEvent, Change
from router.model import HoldState
from tests.router.control.fakes import Clock, drain

PATIENCE = FlapPolicy(
    returns=3, window_seconds=600, first_seconds=60, longest_seconds=1800
)
KEY = ("rig", "GpuTooHot")


def lifted(at=0.0, *, by="level", **changes):
    return AuditEvent(at, Change.LIFTED, replace(drain(), **changes), by, "")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def flapping(clock):
    return Flapping(lambda: PATIENCE, clock)


@pytest.mark.parametrize(
    ("returns", "seconds"),
    [(0, 0), (2, 0), (3, 60), (4, 120), (6, 480), (8, 1800), (64, 1800)],
)
def test_each_return_doubles_the_wait(returns, seconds):
    """Nothing at first, then twice as long each time, up to a bound."""
    assert PATIENCE.hold_down(returns) == seconds


def test_a_node_that_came_back_thrice_has_to_wait(flapping, clock):
    """Two returns are bad luck; a third within ten minutes is flapping."""
    for _ in range(2):
        flapping.see(lifted())
        clock.now += 10
    assert flapping.hold_downs() == {}
    flapping.see(lifted())
    assert flapping.hold_downs() == {KEY: 60}


def test_returns_are_forgotten(flapping, clock):
    """A node that behaved for as long as the window starts anew."""
    for _ in range(4):
        flapping.see(lifted())
    clock.now += 601
    assert flapping.hold_downs() == {}


@pytest.mark.parametrize(
    "event",
    [
        lifted(by="operator:ann"),
        lifted(by="time"),
        lifted(state=HoldState.PROVISIONAL),
        replace(lifted(), change=Change.CONFIRMED),
    ],
    ids=["by a person", "ran out", "a refuted ring", "no lift"],
)
def test_only_the_levels_lifts_count(flapping, event):
    """What a person does is no flapping, nor is a forged ring."""
    for _ in range(10):
        flapping.see(event)
    assert flapping.hold_downs() == {}


def test_returns_under_the_last_router_count(flapping, clock):
    """A restart is no amnesty; events come newest first from the archive."""
    flapping.recall([lifted(990), lifted(800), lifted(500)], now=1_000)
    assert flapping.hold_downs() == {KEY: 60}
    clock.now += 150  # the oldest is over ten minutes old by then
    assert flapping.hold_downs() == {}


@pytest.mark.parametrize("well_seconds", [5, 70, 300])
def test_drains_of_a_flapping_alert_are_bounded(flapping, clock, well_seconds):
    """An alert that fires for 5 s, again and again, drains a few times an hour.

    The node is back once it was well for its hold-down (2 s are two evaluations).
    """
    drains = 0
    end = clock.now + 3600
    while clock.now < end:
        drains += 1
        clock.now += 5
        stay = max(2, flapping.hold_downs().get(KEY, 0))
        while stay > well_seconds and clock.now < end:
            clock.now += well_seconds + 5  # it fires again before it was proven
            stay = max(2, flapping.hold_downs().get(KEY, 0))
        clock.now += stay
        flapping.see(lifted())
        clock.now += max(0, well_seconds - stay)
    # Without a hold-down: 360, 48 and 12 an hour.
    assert drains <= {5: 25, 70: 28, 300: 12}[well_seconds]
