"""Node health as Prometheus sees it: gauges at the scrape, and counters."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from router.metrics.families import AtScrape
from router.metrics.holds import HealthCounters, health_families
from router.model import HoldKind, Override
from tests.router.control.fakes import Clock, drain, store


class View:
    """What control and dispatch would say."""

    def nodes(self):
        return ["rig", "b"]

    def ramp(self, node):
        return 0.25 if node == "b" else 1.0

    def hold_downs(self):
        return {("rig", "GpuTooHot"): 120.0}

    def verifying(self):
        return [("b", "GpuXidCritical")]

    def state_files(self):
        return {"holds.db": True}

    def ignored(self):
        return {"unknown_node": 2}


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    holds = store(Clock())
    holds.fleet(["rig", "b"])
    labels = {"alertname": "GpuWarm", "node": "b", "factor": "0.25"}
    source = "alert:GpuWarm:f"
    warm = drain("b")
    holds.place(
        type(warm)("b", HoldKind.DERATE, source, "warm", 1_000.0, labels=labels)
    )
    holds.override(Override("rig", "GpuTooHot", "operator:ann", "", 1_000.0, 1_600.0))
    registry.register(AtScrape(lambda: health_families(holds, View())))
    return registry


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("inferops_node_factor", {"node": "rig"}, 1.0),
        ("inferops_node_factor", {"node": "b"}, 0.25),
        ("inferops_node_slow_start_ratio", {"node": "b"}, 0.25),
        (
            "inferops_override_until_timestamp_seconds",
            {"node": "rig", "alertname": "GpuTooHot"},
            1_600.0,
        ),
        (
            "inferops_hold_down_seconds",
            {"node": "rig", "alertname": "GpuTooHot"},
            120.0,
        ),
        (
            "inferops_verification_pending",
            {"node": "b", "alertname": "GpuXidCritical"},
            1.0,
        ),
        ("inferops_alerts_ignored", {"reason": "unknown_node"}, 2.0),
        ("inferops_state_writable", {"file": "holds.db"}, 1.0),
    ],
)
def test_state_at_the_scrape(registry, name, labels, value):
    """Each gauge, by its labels."""
    assert value == registry.get_sample_value(name, labels)


def test_counters():
    """What was done is counted by how it went."""
    registry = CollectorRegistry()
    counters = HealthCounters(registry)
    counters.verified(passed=True)
    counters.verified(passed=False)
    counters.evicted("rig", 3)
    counters.silenced("post", done=False)
    samples = [
        ("inferops_verifications_total", {"outcome": "passed"}, 1),
        ("inferops_verifications_total", {"outcome": "failed"}, 1),
        ("inferops_evictions_total", {"node": "rig"}, 3),
        ("inferops_silences_total", {"operation": "post", "outcome": "failed"}, 1),
    ]
    for name, labels, value in samples:
        assert value == registry.get_sample_value(name, labels)
