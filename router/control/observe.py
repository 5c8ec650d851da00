"""Reads every signal and the alerts from Prometheus at one evaluation time.

The time is Prometheus' own: a query ahead of its clock succeeds without series, which
would read as "no alert". Nothing is decided here; a query that fails is left out and
named in `faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from router.alerts.reconcile import ActiveAlert, AlertObservation
from router.clients.prometheus import AlertRule, Prometheus, Sample
from router.errors import PrometheusError
from router.model import Signal

ALERTS = 'ALERTS{action!=""} or ALERTS{alertname="Watchdog"}'

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Observation:
    """What Prometheus said in one pass.

    at:       unix seconds, Prometheus' clock
    taken_at: monotonic seconds, ours
    readings: by signal, by node; a signal whose query failed is not in it
    level:    None where alerts or rules could not be read
    faults:   queries that failed, and why
    """

    at: float
    taken_at: float
    readings: Mapping[str, Mapping[str, float]]
    level: AlertObservation | None = None
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Pass:
    """The queries of one pass; stops when Prometheus has become slow."""

    prometheus: Prometheus
    at: float
    deadline: float
    clock: Clock
    faults: dict[str, str] = field(default_factory=dict)

    def query(self, what: str, expression: str) -> tuple[Sample, ...] | None:
        if self.clock() >= self.deadline:
            self.faults[what] = "not asked, the pass took too long"
            return None
        try:
            return self.prometheus.query(expression, self.at)
        except PrometheusError as error:
            self.faults[what] = str(error)
            return None

    def rules(self) -> tuple[AlertRule, ...] | None:
        try:
            return self.prometheus.rules()
        except PrometheusError as error:
            self.faults["rules"] = str(error)
            return None


def observe(
    prometheus: Prometheus,
    signals: Sequence[Signal],
    held: Collection[str],
    *,
    clock: Clock,
    budget_seconds: float,
) -> Observation:
    """Make one observation; raises PrometheusError when nothing is answered.

    held: names of the alerts that hold a node; only their evidence is read
    """
    started = clock()
    questions = _Pass(prometheus, prometheus.now(), started + budget_seconds, clock)
    level = _level(questions, held)
    readings = {}
    for signal in signals:
        what = f"signal {signal.name!r}"
        samples = questions.query(what, signal.query)
        if samples is not None:
            readings[signal.name] = _by_node(what, samples, questions.faults)
    if level is None and signals and not readings:
        raise PrometheusError("; ".join(questions.faults.values()))
    return Observation(questions.at, started, readings, level, questions.faults)


def _level(questions: _Pass, held: Collection[str]) -> AlertObservation | None:
    alerts = questions.query("alerts", ALERTS)
    rules = questions.rules()
    if alerts is None or rules is None:
        return None
    expressions = {
        rule.annotations["evidence"]
        for rule in rules
        if rule.name in held and "evidence" in rule.annotations
    }
    evidence = {}
    for expression in sorted(expressions):
        samples = questions.query(f"evidence {expression!r}", expression)
        # A series that is NaN exists, but no threshold can judge it.
        finite = (each.labels for each in samples or () if each.finite)
        evidence[expression] = tuple(finite)
    return AlertObservation(
        at=questions.at,
        alerts=tuple(_alert(each) for each in alerts),
        rules=rules,
        evidence=evidence,
    )


def _alert(sample: Sample) -> ActiveAlert:
    labels = dict(sample.labels)
    return ActiveAlert(firing=labels.pop("alertstate", "") == "firing", labels=labels)


def _by_node(
    what: str, samples: Sequence[Sample], faults: dict[str, str]
) -> dict[str, float]:
    readings: dict[str, float] = {}
    twice = set()
    for sample in samples:
        node = sample.labels.get("node")
        if node is None:
            faults[what] = "a series without the label 'node'"
        elif node in readings:
            twice.add(node)
        elif sample.finite:  # a division by zero says nothing
            readings[node] = sample.value
    for node in sorted(twice):
        faults[what] = f"more than one series for node {node!r}"
        del readings[node]
    return readings
