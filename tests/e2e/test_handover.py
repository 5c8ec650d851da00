"""A router is replaced under load: no stream breaks, no request fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import requests

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.streams import outlive

pytestmark = pytest.mark.e2e

SLOTS = {"one": 16, "two": 8, "three": 4}


@pytest.fixture
def fleet(tmp_path) -> Iterator[SimulatedFleet]:
    nodes = [
        Simulated(name, slots=slots, tokens_per_second=60.0)
        for name, slots in SLOTS.items()
    ]
    with SimulatedFleet(tmp_path / "fleet", nodes) as fleet:
        yield fleet


@pytest.fixture
def router(tmp_path, fleet) -> Iterator[Router]:
    with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router:
        yield router


@pytest.fixture
def after(tmp_path) -> Iterator[list[Process]]:
    """Routers that the test starts; none is left."""
    started: list[Process] = []
    yield started
    for each in started:
        each.kill()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fifty_streams_go_on(tmp_path, fleet, router, after) -> None:
    """Some of them wait for a slot while one router hands over to the other."""

    def replace() -> None:
        after.append(
            Process(
                [sys.executable, "-m", "router.server.take_over"],
                log=tmp_path / "successor.log",
                env=router.env,
            )
        )
        until(
            lambda: "taken_over" in after[0].log.read_text(),
            "the second router has taken over",
            seconds=240,
        )

    print(outlive(router.url, fleet.states, SLOTS, replace))
    until(lambda: not router.process.running, "the first has ended", seconds=60)
    assert after[0].running
    assert requests.get(f"{router.url}/readyz", timeout=5).ok
