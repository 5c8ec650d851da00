"""What a scrape tells of circuits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from router.errors import AttemptError, UnavailableError
from router.metrics.circuits import circuit_families
from router.metrics.families import AtScrape
from router.scheduling.request import RoutingRequest
from tests.router.failover.stage import MODEL, Fleet


def test_series():
    """An open circuit is 1, for the model and for the node that has no other."""
    fleet, registry = Fleet("ab"), CollectorRegistry()
    registry.register(AtScrape(lambda: circuit_families(fleet.circuits)))
    fleet.answers["a"] = "gpu"
    for _ in range(3):
        call = replace(fleet.call(), routing=RoutingRequest(MODEL, frozenset("b")))
        with pytest.raises((AttemptError, UnavailableError)):
            fleet.ask(call)

    def value(name, **labels):
        return registry.get_sample_value(name, labels)

    assert 1.0 == value("inferops_circuit_open", node="a", model="m:latest")
    assert 1.0 == value("inferops_circuit_open", node="a", model="all")
    assert value("inferops_circuit_open", node="b", model="all") is None
    counted = value("inferops_circuit_failures_total", node="a", cause="gpu_error")
    assert 3.0 == counted
    assert 2.0 == value("inferops_circuit_openings_total", node="a")
    fleet.circuits.tried(("a", "m:latest"), passed=True)
    assert 0.0 == value("inferops_circuit_open", node="a", model="m:latest")
    trials = value("inferops_circuit_trials_total", node="a", outcome="passed")
    assert 1.0 == trials
