"""The level: what confirms a hold, what lifts it, and everything that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from alerting.payload import Alert, Status
from router.alerts.labels import Ignored, fingerprint, hold_for, matches
from router.alerts.notify import NotificationHandler, NotificationOutcome
from router.alerts.reconcile import (
    ActiveAlert,
    AlertObservation,
    Proofs,
    Reconciled,
    ReconcileInput,
    Revision,
    carry_out,
    reconcile,
)
from router.clients.prometheus import AlertRule, FiringAlert
from router.errors import StateError
from router.holds.store import HoldStore
from router.model import Clear, HoldKind, HoldState
from tests.router.control.fakes import (
    EVIDENCE,
    LABELS,
    Clock,
    MemoryJournal,
    cordon,
    drain,
    store,
)

WATCHDOG = ActiveAlert({"alertname": "Watchdog"}, firing=True)
FIRING = ActiveAlert(LABELS, firing=True)
PENDING = ActiveAlert(LABELS, firing=False)
RULE = AlertRule("GpuTooHot", {}, {"evidence": EVIDENCE}, True, 0.0, 1.0)
PROVEN = {EVIDENCE: ({"node": "rig", "uuid": "GPU-1"},)}


def spoken(*alerts, evaluated=0.0, watchdog=True, rules=None, evidence=None):
    """A level at whose time the rule was last evaluated `evaluated` seconds in."""
    rules = (RULE,) if rules is None else rules
    return AlertObservation(
        at=5_000.0 + evaluated,
        alerts=((WATCHDOG,) if watchdog else ()) + alerts,
        rules=tuple(
            replace(r, last_evaluation=5_000.0 + evaluated + r.last_evaluation)
            for r in rules
        ),
        evidence=PROVEN if evidence is None else evidence,
    )


class Passes:
    """Passes over one store, each two seconds behind the last."""

    def __init__(self, *holds, wait=10.0):
        self.clock = Clock()
        self.holds = store(self.clock, *holds)
        self.clock.now += wait
        self.found = Reconciled()
        self.hold_downs: dict[tuple[str, str], float] = {}
        self.verified: set[Revision] = set()

    def see(self, *levels):
        for level in levels:
            view = ReconcileInput(
                level,
                frozenset({"rig"}),
                self.clock.now,
                self.clock.now,
                self.hold_downs,
                self.verified,
            )
            self.found = reconcile(self.holds.standings(), view, self.found.proofs)
            carry_out(self.found.actions, self.holds)
            self.clock.now += 2
        return self.holds.of("rig")


def test_two_proven_evaluations_lift_a_hold():
    """The rule could judge twice, and did not fire."""
    passes = Passes(drain())
    assert passes.see(spoken(evaluated=0.0)) == (drain(),)
    assert passes.see(spoken(evaluated=1.0)) == ()
    assert passes.holds.history()[-1].why == "the level proves the node well"


def test_one_evaluation_seen_twice_is_one_proof():
    """One answer may be put together while an evaluation is half written."""
    passes = Passes(drain())
    assert passes.see(*[spoken(evaluated=3.0)] * 3) == (drain(),)


UNPROVEN = {
    "prometheus silent": (None, "Prometheus is silent"),
    "watchdog gone": (
        spoken(evaluated=1.0, watchdog=False),
        "Watchdog is not in the answer",
    ),
    "rule gone": (spoken(evaluated=1.0, rules=()), "no rule 'GpuTooHot' is loaded"),
    "rule broken": (
        spoken(evaluated=1.0, rules=(replace(RULE, healthy=False),)),
        "rule 'GpuTooHot' fails",
    ),
    "one of two rules broken": (
        spoken(evaluated=1.0, rules=(RULE, replace(RULE, healthy=False))),
        "rule 'GpuTooHot' fails",
    ),
    "rule not evaluated lately": (
        spoken(evaluated=1.0, rules=(replace(RULE, last_evaluation=-5.1),)),
        "rule 'GpuTooHot' was not evaluated lately",
    ),
    "slow rule not evaluated lately": (
        spoken(
            evaluated=1.0,
            rules=(replace(RULE, last_evaluation=-91.0, interval_seconds=30.0),),
        ),
        "rule 'GpuTooHot' was not evaluated lately",
    ),
    "rule without evidence": (
        spoken(evaluated=1.0, rules=(replace(RULE, annotations={}),)),
        "rule 'GpuTooHot' names no evidence",
    ),
    "no evidence": (
        spoken(evaluated=1.0, evidence={}),
        f"{EVIDENCE!r} has no series for it",
    ),
    "evidence of another node": (
        spoken(evaluated=1.0, evidence={EVIDENCE: ({"node": "b", "uuid": "GPU-1"},)}),
        f"{EVIDENCE!r} has no series for it",
    ),
    "evidence of another card": (
        spoken(evaluated=1.0, evidence={EVIDENCE: ({"node": "rig", "uuid": "GPU-2"},)}),
        f"{EVIDENCE!r} has no series for it",
    ),
    "evidence without a node": (
        spoken(evaluated=1.0, evidence={EVIDENCE: ({"uuid": "GPU-1"},)}),
        f"{EVIDENCE!r} has no series for it",
    ),
    "alert pending": (spoken(PENDING, evaluated=1.0), "the alert is pending"),
}


@pytest.mark.parametrize(("level", "why"), UNPROVEN.values(), ids=UNPROVEN)
def test_an_absent_alert_is_not_recovery(level, why):
    """Between two proofs, one answer that proves nothing starts over."""
    passes = Passes(drain())
    (hold,) = passes.see(spoken(evaluated=0.0), level)
    assert hold.state is HoldState.UNKNOWN
    assert passes.found.undecided == {hold.key: why}
    assert passes.see(spoken(evaluated=2.0)) == (hold,)
    assert passes.see(spoken(evaluated=3.0)) == ()


def test_an_alert_that_fires_again_makes_an_unknown_hold_certain():
    """The level spoke again, for the worse."""
    passes = Passes(drain(state=HoldState.UNKNOWN))
    (hold,) = passes.see(spoken(FIRING))
    assert hold.state is HoldState.CONFIRMED


def test_a_firing_between_two_proofs_starts_over():
    """Well, ill, well: the second well is a first one."""
    passes = Passes(drain())
    passes.see(spoken(evaluated=0.0), spoken(FIRING, evaluated=1.0))
    assert passes.see(spoken(evaluated=2.0)) == (drain(),)


def test_a_latch_is_never_lifted_by_the_level():
    """A lost card that was quiet for ten minutes is not a found card."""
    latch = drain(clear=Clear.MANUAL)
    passes = Passes(latch)
    assert passes.see(*(spoken(evaluated=float(n)) for n in range(5))) == (latch,)
    assert passes.found.undecided == {}


@pytest.mark.parametrize(
    ("clear", "read"),
    [
        ("auto", Clear.AUTO),
        ("manual", Clear.MANUAL),
        ("verified", Clear.VERIFIED),
        ("whatever", Clear.MANUAL),
    ],
)
def test_the_label_clear_says_who_lifts(clear, read):
    """What nobody understands is left to a person."""
    assert hold_for({**LABELS, "clear": clear}, "", 0.0).clear is read


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("drain", HoldKind.DRAIN),
        ("evict", HoldKind.EVICT),
        ("derate", HoldKind.DERATE),
    ],
)
def test_the_label_action_says_what_follows(action, kind):
    """The level places each kind, and lifts it by the same proof."""
    labels = {**LABELS, "action": action}
    passes = Passes()
    (hold,) = passes.see(spoken(ActiveAlert(labels, firing=True)))
    assert hold.kind is kind
    assert passes.see(spoken(evaluated=1.0), spoken(evaluated=2.0)) == ()


def verified_hold():
    return drain(clear=Clear.VERIFIED)


def test_a_verified_hold_waits_for_its_check():
    """The level's proof asks for the check, and only its success lifts."""
    passes = Passes(verified_hold())
    assert passes.see(spoken(evaluated=0.0)) == (verified_hold(),)
    assert [] == [*passes.found.unverified]
    for evaluated in (1.0, 2.0):
        assert passes.see(spoken(evaluated=evaluated)) == (verified_hold(),)
        assert [each.hold for each in passes.found.unverified] == [verified_hold()]
    (standing,) = passes.found.unverified
    passes.verified = {(standing.hold.key, standing.revision)}
    assert passes.see(spoken(evaluated=3.0)) == ()
    why = "the level proves the node well, and it has generated"
    assert why == passes.holds.history()[-1].why


def test_a_check_that_passed_does_not_outweigh_the_alert():
    """It fires again while the check runs: the proof begins anew."""
    passes = Passes(verified_hold())
    passes.see(spoken(evaluated=0.0), spoken(evaluated=1.0))
    (standing,) = passes.found.unverified
    passes.verified = {(standing.hold.key, standing.revision)}
    again = ActiveAlert(verified_hold().labels, firing=True)
    assert passes.see(spoken(again, evaluated=2.0)) == (verified_hold(),)
    assert passes.found.unverified == ()
    assert passes.see(spoken(evaluated=3.0)) == (verified_hold(),)


def test_a_flapping_alert_must_be_proven_longer():
    """The hold stays for its hold-down, and says how long."""
    passes = Passes(drain())
    passes.hold_downs = {("rig", "GpuTooHot"): 10.0}
    for evaluated in (0.0, 5.0, 9.0):
        assert passes.see(spoken(evaluated=evaluated)) == (drain(),)
    assert passes.found.stays == {drain().key: 1.0}
    assert passes.see(spoken(evaluated=10.0)) == ()


def test_a_hold_down_keeps_no_refuted_ring():
    """A forged ring says nothing about flapping."""
    passes = Passes(RING)
    passes.hold_downs = {("rig", "GpuTooHot"): 600.0}
    assert passes.see(spoken(evaluated=0.0), spoken(evaluated=1.0)) == ()


def test_the_level_alone_places_a_hold():
    """A lost webhook costs a pass, not a drain."""
    passes = Passes()
    (hold,) = passes.see(spoken(FIRING))
    assert (hold.kind, hold.state) == (HoldKind.DRAIN, HoldState.CONFIRMED)
    assert hold.source == f"alert:GpuTooHot:{fingerprint(LABELS)}"
    assert hold.labels == LABELS
    assert passes.see(spoken(FIRING)) == (hold,)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({**LABELS, "node": "gone"}, Ignored.UNKNOWN_NODE),
        ({k: v for k, v in LABELS.items() if k != "node"}, Ignored.UNKNOWN_NODE),
        ({**LABELS, "action": "reboot"}, Ignored.UNKNOWN_ACTION),
        ({**LABELS, "action": "derate", "factor": "2"}, Ignored.BAD_FACTOR),
        ({**LABELS, "action": "derate", "factor": "half"}, Ignored.BAD_FACTOR),
    ],
    ids=[
        "node not in the inventory",
        "no node",
        "unknown action",
        "factor over 1",
        "factor in words",
    ],
)
def test_an_alert_without_consequence_is_counted(labels, reason):
    """Never a hold, and never unseen."""
    passes = Passes()
    assert passes.see(spoken(ActiveAlert(labels, firing=True))) == ()
    assert passes.found.ignored == {reason: 1}


def test_alerts_that_pend_place_nothing():
    """`for` is the rule's own patience."""
    assert Passes().see(spoken(PENDING)) == ()


def test_holds_of_people_and_probes_are_not_the_levels():
    """The level speaks of alerts only."""
    by_hand = replace(drain(), source="operator:ann")
    passes = Passes(cordon(), by_hand)
    passes.see(spoken(evaluated=0.0), spoken(evaluated=1.0))
    assert set(map(repr, passes.holds.list())) == {repr(cordon()), repr(by_hand)}


RING = drain(state=HoldState.PROVISIONAL, until=1_060.0)


def test_a_ring_outlives_the_pass_that_it_woke():
    """The bell was seen up to 4 ms before the sample that it speaks of."""
    passes = Passes(wait=0)
    passes.see(spoken(evaluated=0.0))
    passes.holds.place(RING)
    for evaluated in (1.0, 1.1, 1.2):
        assert passes.see(spoken(evaluated=evaluated)) == (RING,)
        passes.clock.now -= 1.6  # passes 0.4 s apart
    assert passes.found.proofs == {}


def test_a_refuted_ring_is_lifted():
    """Forged or late: two evaluations that speak against it are enough."""
    passes = Passes(RING)
    assert passes.see(spoken(evaluated=0.0), spoken(evaluated=1.0)) == ()
    assert passes.holds.history()[-1].why == "the level refutes it"


def test_a_ring_that_nothing_speaks_of_runs_out():
    """The level is silent: the ring keeps its limit and its state."""
    passes = Passes(RING)
    assert passes.see(None, spoken(evaluated=1.0, evidence={})) == (RING,)
    assert passes.holds.blocking("rig")
    passes.clock.now = 1_060.0
    assert not passes.holds.blocking("rig")


def test_a_ring_alone_latches_nothing():
    """A forged `clear: manual` must not hold a node until somebody looks."""
    passes = Passes(replace(RING, clear=Clear.MANUAL))
    assert passes.see(spoken(evaluated=0.0), spoken(evaluated=1.0)) == ()


def test_a_confirmed_ring_takes_the_levels_labels():
    """External labels, and lies, fall away; so does the time limit."""
    reported = {**LABELS, "cluster": "home", "clear": "manual"}
    level = {**LABELS, "clear": "manual"}
    passes = Passes(replace(RING, labels=reported))
    (hold,) = passes.see(spoken(ActiveAlert(level, firing=True)))
    assert (hold.state, hold.until) == (HoldState.CONFIRMED, None)
    assert (hold.labels, hold.clear) == (level, Clear.MANUAL)


def test_a_fresh_ring_for_a_standing_hold_keeps_it():
    """It fired again in the moment before it would have been lifted."""
    passes = Passes(drain())
    passes.see(spoken(evaluated=0.0))
    passes.holds.place(RING)
    assert passes.see(spoken(evaluated=1.0)) == (drain(),)


def test_a_ring_during_a_pass_keeps_the_hold():
    """What the pass judged is not what stands any more."""
    passes = Passes(drain())
    passes.see(spoken(evaluated=0.0))
    view = ReconcileInput(
        spoken(evaluated=1.0), frozenset({"rig"}), passes.clock.now, 0.0
    )
    found = reconcile(passes.holds.standings(), view, passes.found.proofs)
    passes.holds.place(RING)
    carry_out(found.actions, passes.holds)
    assert passes.holds.of("rig") == (drain(),)


def test_every_action_is_tried_when_the_disk_is_full():
    """A disk must not keep the second sick node in service."""
    clock, journal = Clock(), MemoryJournal()
    holds = HoldStore(journal, clock)
    journal.broken = True
    both = (
        ActiveAlert({**LABELS, "node": "a"}, firing=True),
        ActiveAlert({**LABELS, "node": "b"}, firing=True),
    )
    found = reconcile((), ReconcileInput(spoken(*both), frozenset("ab"), 0, 0), {})
    with pytest.raises(StateError, match="disk is full"):
        carry_out(found.actions, holds)
    assert holds.blocking("a")
    assert holds.blocking("b")


@pytest.mark.parametrize(
    ("notified", "same"),
    [
        pytest.param(LABELS, True, id="equal"),
        pytest.param({**LABELS, "cluster": "home"}, True, id="external label"),
        pytest.param({**LABELS, "uuid": "GPU-2"}, False, id="another card"),
        pytest.param({"alertname": "GpuTooHot", "node": "rig"}, False, id="too little"),
    ],
)
def test_which_notification_names_an_alert(notified, same):
    """All of the level's labels, and perhaps Prometheus' external ones."""
    assert matches(notified, LABELS) is same


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, 14695981039346656037),
        (
            {"name": "garland, briggs", "fear": "love is not enough"},
            5799056148416392346,
        ),
    ],
    ids=["none", "two"],
)
def test_the_fingerprint_is_prometheus_own(labels, expected):
    """So that a notification and `ALERTS` make one identity (common/model's cases)."""
    assert int(fingerprint(labels), 16) == expected


class AnySequence(RuleBasedStateMachine):
    """Rings, passes and time in any order, against a plain account of the truth.

    Lost, repeated, reordered and forged notifications are all in there.
    """

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.holds = store(self.clock)
        self.fleet = frozenset({"rig"})
        self.bell = NotificationHandler(
            self.holds,
            lambda: self.fleet,
            lambda: None,
            lambda: 60.0,
            lambda: [FiringAlert(LABELS, {})],
            clock=self.clock,
            monotonic=self.clock,
        )
        self.proofs: Proofs = {}
        self.proven = 0  # passes in a row that proved the node well
        self.rang = -1_000.0
        self.confirmed = False

    @property
    def held(self):
        return bool(self.holds.blocking("rig"))

    @rule(seconds=st.sampled_from([0.4, 1.0, 2.0, 30.0]))
    def wait(self, seconds):
        self.clock.now += seconds

    @rule(
        status=st.sampled_from(["firing", "resolved"]),
        starts_at=st.sampled_from(["t1", "t2", "t3"]),
    )
    def ring(self, status, starts_at):
        before = self.held
        alert = Alert(
            status=Status(status), labels=LABELS, starts_at=starts_at, fingerprint="f"
        )
        if self.bell.hear([alert]) == (NotificationOutcome.PLACED,):
            self.rang, self.proven = self.clock.now, 0
            assert self.held
        assert self.held >= before
        if status == "resolved":
            assert self.held == before

    @rule(
        alert=st.sampled_from([(), (), (), (FIRING,), (PENDING,)]),
        whole=st.sampled_from([True, True, True, False]),
        broken=st.sampled_from(["silent", "watchdog", "rule", "health", "evidence"]),
    )
    def see(self, alert, whole, broken):
        self.clock.now += 0.01  # each pass sees an evaluation of its own
        level = self.level(alert, None if whole else broken)
        before = self.held
        view = ReconcileInput(level, self.fleet, self.clock.now, self.clock.now)
        found = reconcile(self.holds.standings(), view, self.proofs)
        carry_out(found.actions, self.holds)
        self.proofs = found.proofs
        if level is not None and FIRING in level.alerts:
            self.confirmed = True
            assert self.held
        heard = self.clock.now - self.rang >= 1.5
        self.proven = self.proven + 1 if whole and not alert and heard else 0
        if before and not self.held:
            assert self.proven >= 2
            self.confirmed = False

    def level(self, alert, broken):
        if broken == "silent":
            return None
        healthy = replace(RULE, healthy=broken != "health")
        return spoken(
            *alert,
            evaluated=self.clock.now,
            watchdog=broken != "watchdog",
            rules=() if broken == "rule" else (healthy,),
            evidence={} if broken == "evidence" else None,
        )

    @invariant()
    def holds_last_as_long_as_they_should(self):
        if self.confirmed:
            assert self.held
        elif self.clock.now >= self.rang + 60:
            assert not self.held


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=150, stateful_step_count=30)
