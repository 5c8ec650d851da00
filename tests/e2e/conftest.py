"""A simulated fleet and the real router in front of it, for the tests of one file."""

from __future__ import annotations

import pytest

from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

TWO = (
    Simulated("fast", slots=4, tokens_per_second=400.0),
    Simulated("slow", slots=4, tokens_per_second=100.0, tflops=20.0),
)


@pytest.fixture
def fleet(tmp_path):
    """Two simulated nodes; `fast` is what the router prefers."""
    with SimulatedFleet(tmp_path, TWO) as simulated:
        yield simulated


@pytest.fixture
def router(tmp_path, fleet):
    """A router without any Prometheus: inference must not need one."""
    with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as made:
        yield made
