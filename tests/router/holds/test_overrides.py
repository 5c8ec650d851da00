"""An operator overrules one alert on one node, for a while, also over a restart."""

from __future__ import annotations

import pytest

from router.holds.journal import SqliteHolds
from router.holds.overrides import Overrides
from router.holds.record import Change
from router.holds.store import HoldStore
from router.model import HoldKind, Override
from tests.router.control.fakes import Clock, cordon, drain

WORD = Override("rig", "GpuTooHot", "operator:ann", "sensor", 1_000.0, 1_600.0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    """Open the store as a router does at its start; again for a restart."""
    journals = []

    def start(panic_ratio=1.0):
        journals.append(SqliteHolds(tmp_path / "holds.db"))
        overrides = Overrides(journals[-1], clock, clock)
        store = HoldStore(journals[-1], clock, panic_ratio, clock, overrides=overrides)
        store.fleet({"rig", "b"})
        return store

    yield start
    for journal in journals:
        journal.close()


def test_the_alert_has_no_effect_on_that_node(opened):
    """Its hold stands and is shown, but keeps nothing away; others do."""
    holds = opened()
    holds.override(WORD)
    holds.place(drain())
    assert holds.of("rig") == (drain(),)
    assert holds.blocking("rig") == ()
    other = drain(alert="GpuXidCritical")
    holds.place(other)
    holds.place(drain("b"))
    assert holds.blocking("rig") == (other,)
    assert holds.blocking("b") == (drain("b"),)


def test_people_and_probes_are_not_overruled(opened):
    """An override is of an alert."""
    holds = opened()
    holds.override(WORD)
    holds.place(cordon())
    assert holds.blocking("rig") == (cordon(),)


def test_it_ends_by_itself(opened, clock):
    """At its time the hold counts again, before anybody sweeps too."""
    holds = opened()
    holds.place(drain())
    holds.override(WORD)
    reported = []
    holds.listen(lambda: reported.append(holds.blocking("rig")))
    clock.now = 1_600.0
    assert holds.blocking("rig") == (drain(),)
    holds.expire()
    assert reported == [(drain(),)]
    assert holds.overrides.list() == ()
    assert (holds.history()[-1].change, holds.history()[-1].by) == (
        Change.OVERRIDE_ENDED,
        "time",
    )


def test_it_can_be_ended(opened):
    """Before its time, by name; what was not overruled is told."""
    holds = opened()
    holds.place(drain())
    holds.override(WORD)
    assert not holds.end_override("rig", "Other", "operator:bob")
    assert holds.end_override("rig", "GpuTooHot", "operator:bob")
    assert holds.blocking("rig") == (drain(),)


def test_it_outlives_the_router(opened, clock):
    """On disk when the call returns; gone from it when it has ended."""
    opened().override(WORD)
    again = opened()
    assert again.overrides.list() == (WORD,)
    again.place(drain())
    assert again.blocking("rig") == ()
    clock.now = 2_000.0
    again.expire()
    assert opened().overrides.list() == ()


def test_overruled_alerts_cause_no_panic(opened):
    """Panic is for holds that count."""
    holds = opened(panic_ratio=0.5)
    holds.place(drain())
    holds.place(drain("b"))
    assert holds.panic
    holds.override(WORD)
    assert not holds.panic
    assert holds.blocking("b")


def test_a_step_of_the_wall_clock_ends_nothing(tmp_path, clock):
    """The wall clock jumps by ten minutes, both ways: an hour stays an hour."""
    wall = Clock()
    journal = SqliteHolds(tmp_path / "holds.db")
    holds = HoldStore(
        journal, wall, 1.0, clock, overrides=Overrides(journal, wall, clock)
    )
    holds.place(cordon(until=1_300.0))
    holds.override(WORD)
    for step in (600.0, -1_200.0):
        wall.now += step
        holds.expire()
        assert holds.blocking("rig")
        assert holds.overrides.list() == (WORD,)
    clock.now += 301
    assert not holds.blocking("rig")
    clock.now += 300
    assert holds.overrides.list() == ()
    journal.close()


def test_history_names_who_and_why(opened):
    """The line of an override reads like any other."""
    holds = opened()
    holds.override(WORD)
    (event,) = holds.history()
    assert (event.change, event.by, event.why) == (
        Change.OVERRIDDEN,
        "operator:ann",
        "sensor",
    )
    assert (event.hold.node, event.hold.kind, event.hold.alert) == (
        "rig",
        HoldKind.DRAIN,
        "GpuTooHot",
    )
