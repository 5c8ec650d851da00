"""Observations: one time for all, and what partial failure leaves."""

from __future__ import annotations

import math

import pytest

from router.clients.prometheus import AlertRule, Sample
from router.control.observe import ALERTS, observe
from router.errors import PrometheusError
from router.model import Signal
from tests.router.control.fakes import EVIDENCE, LABELS, Clock, FakePrometheus

HEAT = Signal("heat", "node:gpu_temperature:max_celsius", 1, 90, 40)
LOAD = Signal("load", "node:load_per_core:ratio", 1, 2, 0)
RULE = AlertRule("GpuTooHot", {}, {"evidence": EVIDENCE}, True, 4_999.0, 1.0)
SILENT = PrometheusError("silent")


def sample(value=50.0, **labels):
    return Sample(labels, value, 5_000.0)


def look(prometheus, held=(), clock=None):
    return observe(
        prometheus, (HEAT, LOAD), held, clock=clock or Clock(), budget_seconds=4
    )


def test_everything_is_asked_at_prometheus_own_time():
    """A time ahead of its clock would answer an empty success."""
    prometheus = FakePrometheus(loaded=(RULE,))
    look(prometheus, held=["GpuTooHot"])
    assert prometheus.asked == [
        (query, 5_000.0) for query in (ALERTS, EVIDENCE, HEAT.query, LOAD.query)
    ]


def test_readings_are_by_signal_and_node():
    """Values that say nothing are left out, and so are foreign series."""
    prometheus = FakePrometheus(
        {
            HEAT.query: (sample(70.0, node="a"), sample(math.nan, node="b")),
            LOAD.query: (sample(1.0), sample(math.inf, node="a"), sample(node="b")),
        }
    )
    found = look(prometheus)
    assert found.readings == {"heat": {"a": 70.0}, "load": {"b": 50.0}}
    assert found.faults == {"signal 'load'": "a series without the label 'node'"}
    assert (found.at, found.taken_at) == (5_000.0, 1_000.0)


def test_two_series_for_one_node_are_no_reading():
    """Which of them would be right cannot be told."""
    twice = (sample(70.0, node="a"), sample(80.0, node="a"), sample(node="b"))
    found = look(FakePrometheus({HEAT.query: twice}))
    assert found.readings["heat"] == {"b": 50.0}
    assert found.faults == {"signal 'heat'": "more than one series for node 'a'"}


def test_alerts_carry_their_state_apart_from_their_labels():
    """Firing and pending, with the labels that the rule gave."""
    prometheus = FakePrometheus(
        {
            ALERTS: (
                sample(1.0, **LABELS, alertstate="firing"),
                sample(1.0, alertname="Watchdog", alertstate="pending"),
            )
        }
    )
    level = look(prometheus).level
    assert [(a.firing, a.labels) for a in level.alerts] == [
        (True, LABELS),
        (False, {"alertname": "Watchdog"}),
    ]
    assert not level.watchdog


def test_evidence_is_asked_for_standing_holds_only_and_nan_is_none():
    """A series that is NaN exists, but no threshold can judge it."""
    other = AlertRule("Other", {}, {"evidence": "node:other:count"}, True, 0.0, 1.0)
    prometheus = FakePrometheus(
        {EVIDENCE: (sample(node="a"), sample(math.nan, node="b"))},
        loaded=(RULE, other),
    )
    level = look(prometheus, held=["GpuTooHot"]).level
    assert level.evidence == {EVIDENCE: ({"node": "a"},)}
    assert look(prometheus).level.evidence == {}


@pytest.mark.parametrize(
    ("broken", "faults", "level"),
    [
        pytest.param(HEAT.query, ["signal 'heat'"], True, id="a signal"),
        pytest.param(ALERTS, ["alerts"], False, id="the alerts"),
        pytest.param(EVIDENCE, [f"evidence {EVIDENCE!r}"], True, id="evidence"),
    ],
)
def test_a_failed_query_is_that_part_missing(broken, faults, level):
    """Half an answer is half an answer, and says which half."""
    prometheus = FakePrometheus({broken: SILENT}, loaded=(RULE,))
    found = look(prometheus, held=["GpuTooHot"])
    assert list(found.faults) == faults
    assert (found.level is not None) is level
    assert "load" in found.readings
    assert ("heat" in found.readings) is (broken != HEAT.query)


def test_rules_that_cannot_be_read_leave_no_level():
    """Without the rules' health nothing can be lifted."""
    found = look(FakePrometheus(loaded=SILENT))
    assert found.level is None
    assert found.faults == {"rules": "silent"}


@pytest.mark.parametrize(
    "prometheus",
    [
        FakePrometheus(time=SILENT),
        FakePrometheus(dict.fromkeys((ALERTS, HEAT.query, LOAD.query), SILENT)),
    ],
    ids=["not even the time", "no query"],
)
def test_a_silent_prometheus_is_an_error(prometheus):
    """The loop must know the difference between nothing wrong and nothing said."""
    with pytest.raises(PrometheusError, match="silent"):
        look(prometheus)


def test_a_slow_prometheus_ends_the_pass():
    """Ten queries that each take their timeout must not hold up the level."""
    clock = Clock()
    prometheus = FakePrometheus(on_query=lambda: setattr(clock, "now", clock.now + 3))
    found = look(prometheus, clock=clock)
    assert [query for query, _ in prometheus.asked] == [ALERTS, HEAT.query]
    assert found.faults == {"signal 'load'": "not asked, the pass took too long"}
