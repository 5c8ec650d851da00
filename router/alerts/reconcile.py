"""Compares the holds of alerts with the alerts in Prometheus; pure.

Only a reconcile pass confirms or lifts an alert's hold; the webhook places provisional
ones. An absent alert is not a recovery: alerts also vanish when an exporter dies, the
inventory is emptied, a rule breaks or Prometheus restarts. A hold is lifted when, in
two evaluations of its rule, the rule is healthy and fresh, the series that it reads
exist for the node, Watchdog fires in the same answer, and the alert is not even
pending. Two evaluations, because an answer may be given while an evaluation is half
written. If the alert flaps, this must hold for longer; with `clear: verified`, a check
of the node must succeed as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from router.alerts.labels import (
    Ignored,
    clear_of,
    hold_for,
    ignored,
    matches,
)
from router.clients.prometheus import AlertRule
from router.errors import StateError
from router.holds.effect import by_alert
from router.holds.record import HoldRecord, Key
from router.holds.store import HoldStore
from router.model import Clear, Hold, HoldState

Labels = Mapping[str, str]
Revision = tuple[Key, int]
Proofs = Mapping[Revision, float]

# A rule is fresh if its last evaluation is no older, by Prometheus' clock.
_FRESH_INTERVALS = 3
_FRESH_SECONDS = 5.0
# The webhook was seen up to 4 ms before the sample it speaks of.
_NOTIFICATION_MARGIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """A series of `ALERTS`, firing or pending; labels without `alertstate`."""

    labels: Labels
    firing: bool


@dataclass(frozen=True, slots=True)
class AlertObservation:
    """Alerts and rules of one observation; `evidence` has series' labels by query."""

    at: float
    alerts: tuple[ActiveAlert, ...]
    rules: tuple[AlertRule, ...]
    evidence: Mapping[str, tuple[Labels, ...]]

    @property
    def watchdog(self) -> bool:
        return any(
            alert.firing and alert.labels.get("alertname") == "Watchdog"
            for alert in self.alerts
        )


@dataclass(frozen=True, slots=True)
class ReconcileInput:
    """What one pass compares.

    level:      None where Prometheus did not answer
    fleet:      the inventory's nodes
    started_at: monotonic seconds when the pass began, before its first query
    now:        unix seconds
    hold_downs: seconds that a flapping alert must be gone before its hold is
                lifted, by node and alert
    verified:   holds with `clear: verified` whose check has passed
    """

    level: AlertObservation | None
    fleet: frozenset[str]
    started_at: float
    now: float
    hold_downs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    verified: Collection[Revision] = frozenset()


@dataclass(frozen=True, slots=True)
class PlaceHold:
    """Place a hold: its alert fires."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class ConfirmHold:
    """Confirm a hold: its alert fires, and gives it its labels."""

    standing: HoldRecord
    labels: Labels


@dataclass(frozen=True, slots=True)
class MarkUnverified:
    """Keep a hold: its alert does not fire, but the node is not proven healthy."""

    standing: HoldRecord
    why: str


@dataclass(frozen=True, slots=True)
class LiftHold:
    """Lift a hold: the node is proven healthy."""

    standing: HoldRecord
    why: str


Action = PlaceHold | ConfirmHold | MarkUnverified | LiftHold


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The result of a pass; `proofs` goes into the next one.

    proofs:     time of the evaluation that first proved the node healthy, by hold
                and revision
    undecided:  why nothing can be concluded, by hold
    stays:      seconds that a hold stays because its alert flaps, by hold
    unverified: holds that only wait for the check of their node
    """

    actions: tuple[Action, ...] = ()
    proofs: Proofs = field(default_factory=dict)
    undecided: Mapping[Key, str] = field(default_factory=dict)
    stays: Mapping[Key, float] = field(default_factory=dict)
    unverified: tuple[HoldRecord, ...] = ()
    ignored: Mapping[Ignored, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Proof:
    """Evaluations in which rules could fire and did not: the oldest and the newest."""

    oldest: float
    newest: float
    interval_seconds: float


def reconcile(
    standings: Iterable[HoldRecord], view: ReconcileInput, proofs: Proofs
) -> Reconciled:
    """Compare every alert's hold, and find alerts that have none yet."""
    held = [each for each in standings if by_alert(each.hold)]
    judge = _Reconciler(view, proofs)
    for standing in held:
        judge.judge(standing)
    placed, without = _wanted(view, held)
    return Reconciled(
        actions=(*judge.actions, *placed),
        proofs=judge.proofs,
        undecided=judge.undecided,
        stays=judge.stays,
        unverified=tuple(judge.unverified),
        ignored=without,
    )


def carry_out(actions: Iterable[Action], holds: HoldStore) -> None:
    """Apply all actions of a pass, but to holds that have changed since.

    Raises StateError only at the end: a full disk must not keep a second unhealthy
    node in service.
    """
    failure: StateError | None = None
    for action in actions:
        try:
            _carry_out(action, holds)
        except StateError as error:
            failure = error
    if failure is not None:
        raise failure


def _carry_out(action: Action, holds: HoldStore) -> None:
    match action:
        case PlaceHold(hold):
            holds.place(hold)
        case ConfirmHold(standing, labels):
            holds.confirm(
                *standing.hold.key,
                labels=labels,
                clear=clear_of(labels),
                revision=standing.revision,
            )
        case MarkUnverified(standing, why):
            holds.mark_unknown(*standing.hold.key, why=why, revision=standing.revision)
        case LiftHold(standing, why):
            holds.lift(
                *standing.hold.key, by="level", why=why, revision=standing.revision
            )


def _wanted(
    view: ReconcileInput, held: list[HoldRecord]
) -> tuple[list[PlaceHold], Mapping[Ignored, int]]:
    placed = []
    without: Counter[Ignored] = Counter()
    for alert in view.level.alerts if view.level else ():
        if not alert.firing or "action" not in alert.labels:
            continue
        reason = ignored(alert.labels, view.fleet)
        if reason is not None:
            without[reason] += 1
        elif not any(matches(each.hold.labels, alert.labels) for each in held):
            name = alert.labels.get("alertname", "")
            placed.append(PlaceHold(hold_for(alert.labels, name, view.now)))
    return placed, without


class _Reconciler:
    """Collects the actions of one pass, hold by hold."""

    def __init__(self, view: ReconcileInput, proofs: Proofs) -> None:
        self._view = view
        self._before = proofs
        self.actions: list[Action] = []
        self.proofs: dict[tuple[Key, int], float] = {}
        self.undecided: dict[Key, str] = {}
        self.stays: dict[Key, float] = {}
        self.unverified: list[HoldRecord] = []

    def judge(self, standing: HoldRecord) -> None:
        level = self._view.level
        if level is None:
            self._doubt(standing, "Prometheus is silent")
            return
        labels = standing.hold.labels
        found = [alert for alert in level.alerts if matches(labels, alert.labels)]
        firing = [alert for alert in found if alert.firing]
        if firing:
            self._confirm(standing, firing[0])
        elif found:
            self._doubt(standing, "the alert is pending")
        else:
            self._absent(standing, level)

    def _confirm(self, standing: HoldRecord, alert: ActiveAlert) -> None:
        if standing.hold.state is not HoldState.CONFIRMED:
            self.actions.append(ConfirmHold(standing, alert.labels))

    def _absent(self, standing: HoldRecord, level: AlertObservation) -> None:
        hold = standing.hold
        proof = _prove(hold, level)
        for_a_person = _latched(hold) and hold.clear is Clear.MANUAL
        if isinstance(proof, str):
            self._doubt(standing, proof)
        elif not (for_a_person or self._just_notified(standing, proof)):
            self._prove(standing, proof)

    def _just_notified(self, standing: HoldRecord, proof: _Proof) -> bool:
        age = self._view.started_at - standing.asserted_at
        return age < proof.interval_seconds + _NOTIFICATION_MARGIN_SECONDS

    def _prove(self, standing: HoldRecord, proof: _Proof) -> None:
        key = (standing.hold.key, standing.revision)
        first = self._before.get(key)
        if first is not None and proof.oldest > first:
            why = self._enough(standing, proof.oldest - first)
            if why:
                self.actions.append(LiftHold(standing, why))
                return
        self.proofs[key] = proof.newest if first is None else first

    def _enough(self, standing: HoldRecord, proven_seconds: float) -> str | None:
        """Return why a hold may be lifted after so long a proof; None: not yet."""
        hold = standing.hold
        if hold.state is HoldState.PROVISIONAL:
            return "the level refutes it"
        stays = self._view.hold_downs.get((hold.node, hold.alert or ""), 0.0)
        if proven_seconds < stays:
            self.stays[hold.key] = stays - proven_seconds
            return None
        if hold.clear is not Clear.VERIFIED:
            return "the level proves the node well"
        if (hold.key, standing.revision) in self._view.verified:
            return "the level proves the node well, and it has generated"
        self.unverified.append(standing)
        return None

    def _doubt(self, standing: HoldRecord, why: str) -> None:
        if _latched(standing.hold):
            return  # a person or a check lifts it
        self.undecided[standing.hold.key] = why
        if standing.hold.state is HoldState.CONFIRMED:
            self.actions.append(MarkUnverified(standing, why))


def _latched(hold: Hold) -> bool:
    # A notification alone latches nothing: it may be forged.
    return hold.clear is not Clear.AUTO and hold.state is not HoldState.PROVISIONAL


def _prove(hold: Hold, level: AlertObservation) -> _Proof | str:
    """Return the proof that the alert's rules could fire, or what is missing."""
    name = hold.labels.get("alertname", "")
    rules = [rule for rule in level.rules if rule.name == name]
    if not level.watchdog:
        return "Watchdog is not in the answer"
    if not rules:
        return f"no rule {name!r} is loaded"
    for rule in rules:
        missing = _cannot_judge(rule, hold, level)
        if missing:
            return missing
    return _Proof(
        oldest=min(rule.last_evaluation for rule in rules),
        newest=max(rule.last_evaluation for rule in rules),
        interval_seconds=max(rule.interval_seconds for rule in rules),
    )


def _cannot_judge(rule: AlertRule, hold: Hold, level: AlertObservation) -> str | None:
    if not rule.healthy:
        return f"rule {rule.name!r} fails"
    allowed = max(_FRESH_INTERVALS * rule.interval_seconds, _FRESH_SECONDS)
    if level.at - rule.last_evaluation > allowed:
        return f"rule {rule.name!r} was not evaluated lately"
    expression = rule.annotations.get("evidence")
    if expression is None:
        return f"rule {rule.name!r} names no evidence"
    samples = level.evidence.get(expression, ())
    if not any(_selects(labels, hold) for labels in samples):
        return f"{expression!r} has no series for it"
    return None


def _selects(labels: Labels, hold: Hold) -> bool:
    common = labels.keys() & hold.labels.keys()
    return "node" in common and all(labels[n] == hold.labels[n] for n in common)
