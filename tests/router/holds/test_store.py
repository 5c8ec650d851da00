"""The hold store: identity, what blocks, panic, and what is on disk when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.errors import StateError
from router.holds.record import Change
from router.holds.store import HoldStore
from router.model import Clear, Hold, HoldKind, HoldState
from tests.router.control.fakes import Clock, MemoryJournal, cordon, drain, store

DOWN = Hold("rig", HoldKind.DOWN, "probe", "refused", 1_000.0)
RING = drain(state=HoldState.PROVISIONAL, until=1_060.0)


@pytest.fixture
def clock():
    return Clock()


def test_a_node_without_holds_is_not_blocked(clock):
    """Nothing holds a node that nobody spoke of."""
    assert store(clock).blocking("rig") == ()


@pytest.mark.parametrize(
    "hold", [cordon(), drain(), DOWN, RING], ids=["cordon", "drain", "down", "ring"]
)
def test_every_kind_of_hold_blocks_its_node_only(clock, hold):
    """A hold keeps work from its node, and from no other."""
    holds = store(clock)
    assert holds.place(hold)
    assert holds.blocking("rig") == (hold,)
    assert holds.blocking("other") == ()


def test_lifting_one_hold_leaves_the_others(clock):
    """A node is back only when its last hold is gone."""
    holds = store(clock, cordon(), drain())
    assert holds.lift("rig", HoldKind.CORDON, "operator:ann", by="ann", why="done")
    assert holds.blocking("rig") == (drain(),)
    assert not holds.lift("rig", HoldKind.CORDON, "operator:ann", by="ann", why="again")


def test_the_same_hold_again_keeps_its_first_time(clock):
    """`since` tells how long a node has been out, however often that is said."""
    holds = store(clock)
    holds.place(cordon(since=1_000.0))
    assert not holds.place(cordon(since=1_500.0))
    assert holds.of("rig") == (cordon(since=1_000.0),)
    assert holds.placed[HoldKind.CORDON] == 1


def test_a_node_is_found_down_once_whoever_finds_it(clock):
    """People read of it in the log once, until it was back."""
    holds = store(clock, drain())
    traffic = replace(DOWN, source="traffic", reason="reset")
    assert [holds.find_down(each) for each in (traffic, DOWN, traffic)] == [
        True,
        False,
        False,
    ]
    for each in (traffic, DOWN):
        holds.lift(*each.key, by="probe", why="it answers")
    assert holds.find_down(DOWN)


@pytest.mark.parametrize("state", [HoldState.CONFIRMED, HoldState.UNKNOWN])
def test_a_ring_never_weakens_what_the_level_said(clock, state):
    """A ring for a standing hold must not give it a time limit."""
    holds = store(clock, drain(state=state))
    assert not holds.place(RING)
    assert holds.of("rig") == (drain(state=state),)


def test_a_confirmed_ring_loses_its_time_limit(clock):
    """The level makes a ring last."""
    holds = store(clock)
    holds.place(RING)
    labels = {"node": "rig", "alertname": "GpuTooHot"}
    assert holds.confirm(*RING.key, clear=Clear.MANUAL, labels=labels)
    clock.now = 9_000.0
    (hold,) = holds.blocking("rig")
    assert (hold.state, hold.until) == (HoldState.CONFIRMED, None)
    assert (hold.clear, hold.labels) == (Clear.MANUAL, labels)


def test_an_expired_hold_does_not_block_and_is_dropped(clock):
    """Time alone ends a ring, also before anybody sweeps."""
    holds = store(clock)
    holds.place(RING)
    clock.now = 1_060.0
    assert holds.blocking("rig") == ()
    holds.expire()
    assert holds.list() == ()
    assert holds.history()[-1].why == "no pass confirmed it in time"


def test_a_hold_placed_after_its_predecessor_ran_out_is_new(clock):
    """`since` does not reach back over a time without a hold."""
    holds = store(clock)
    holds.place(RING)
    clock.now = 2_000.0
    again = replace(RING, since=2_000.0, until=2_060.0)
    assert holds.place(again)
    assert holds.of("rig") == (again,)
    assert holds.lifted[HoldKind.DRAIN] == 1


def test_a_lift_of_a_judged_revision_spares_what_came_since(clock):
    """A pass that began before a ring must not take the ring away."""
    holds = store(clock, drain())
    (judged,) = holds.standings()
    holds.place(RING)
    lifted = holds.lift(*judged.hold.key, by="level", why="", revision=judged.revision)
    assert not lifted
    assert holds.blocking("rig") == (drain(),)


@pytest.mark.parametrize(
    ("drained", "panic"),
    [(("a", "b"), False), (("a", "b", "c"), True)],
    ids=["exactly half", "more than half"],
)
def test_panic_begins_above_its_share_of_the_fleet(clock, drained, panic):
    """One bad expression must not empty the fleet."""
    holds = store(clock, panic_ratio=0.5)
    holds.fleet(["a", "b", "c", "d"])
    for node in drained:
        holds.place(drain(node))
    assert holds.panic is panic
    assert bool(holds.blocking("a")) is not panic


def test_panic_spares_the_holds_of_people_and_probes(clock):
    """In panic alerts are ignored, and nothing else."""
    holds = store(clock, panic_ratio=0.5)
    holds.fleet(["rig"])
    by_hand = replace(drain(), source="operator:ann")
    for hold in (drain(), cordon(), DOWN, by_hand):
        holds.place(hold)
    assert holds.panic
    assert holds.blocking("rig") == (cordon(), DOWN, by_hand)


def test_nodes_outside_the_fleet_cause_no_panic(clock):
    """Holds of nodes that left stay on record, and count for nothing."""
    holds = store(clock, panic_ratio=0.5)
    holds.fleet(["a", "b"])
    for node in ("gone", "lost"):
        holds.place(drain(node))
    assert not holds.panic
    assert len(holds.list()) == 2


def test_panic_ends_when_rings_run_out(clock):
    """Panic follows time as well as changes."""
    holds = store(clock, panic_ratio=0.5)
    holds.fleet(["rig"])
    holds.place(RING)
    assert holds.panic
    clock.now = 1_060.0
    holds.expire()
    assert not holds.panic


def test_each_change_is_told_and_counted(clock):
    """Listeners hear every change once, the history says who and why."""
    holds = store(clock)
    reported = []
    holds.listen(lambda: reported.append(holds.version))
    holds.place(RING)
    holds.place(RING)
    holds.confirm(*RING.key)
    holds.mark_unknown(*RING.key, why="rule fails")
    holds.lift(*RING.key, by="ann", why="checked")
    assert reported == [1, 2, 3, 4]
    assert [(e.change, e.by, e.why) for e in holds.history()] == [
        (Change.PLACED, RING.source, "too hot"),
        (Change.CONFIRMED, "level", "the alert fires"),
        (Change.DOUBTED, "level", "rule fails"),
        (Change.LIFTED, "ann", "checked"),
    ]
    assert (holds.placed[HoldKind.DRAIN], holds.lifted[HoldKind.DRAIN]) == (1, 1)


def test_history_is_bounded(clock):
    """A flapping node must not fill the memory."""
    holds = store(clock)
    for _ in range(600):
        holds.place(DOWN)
        holds.lift(*DOWN.key, by="probe", why="it answers")
    assert len(holds.history()) == 1000


def test_cordons_and_drains_survive_and_probes_look_again(clock):
    """A killed router comes back with what only it knew."""
    journal = MemoryJournal()
    holds = HoldStore(journal, clock)
    for hold in (cordon(), drain(), DOWN):
        holds.place(hold)
    again = HoldStore(journal, clock)
    assert again.list() == (cordon(), drain())
    assert again.blocking("rig")
    assert again.placed.total() == 0


def test_a_full_disk_is_told_and_tried_again(clock):
    """The hold acts at once; the disk gets it as soon as it can."""
    journal = MemoryJournal()
    holds = HoldStore(journal, clock)
    journal.broken = True
    with pytest.raises(StateError, match="disk is full"):
        holds.place(cordon())
    assert holds.blocking("rig") == (cordon(),)
    holds.place(DOWN)  # live traffic does not hear of the disk
    journal.broken = False
    holds.expire()
    assert journal.load() == (cordon(),)


def test_a_write_tells_the_newest_state(clock):
    """Of two writers that overtake each other, the later state is on disk."""

    class Slow(MemoryJournal):
        def save(self, changes):
            if not self.rows:
                self.rows[cordon().key] = cordon()
                holds.lift(*cordon().key, by="ann", why="")
            return super().save(changes)

    journal = Slow()
    holds = HoldStore(journal, clock)
    holds.place(cordon())
    assert holds.list() == journal.load() == ()
