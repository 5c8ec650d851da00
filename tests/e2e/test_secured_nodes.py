"""Nodes behind TLS, a path and a token: polled, asked and failed over as others."""

from __future__ import annotations

import json
import time

import pytest

from exporters.access import Access
from exporters.errors import NoAnswerError
from exporters.fetch import get_json
from tests.harness.crowd import Crowd
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.secured import Secured
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    nodes = [Simulated("far", slots=4), Simulated("near", slots=4)]
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), nodes) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def front(fleet, tmp_path_factory):
    with Secured(fleet.url("far"), tmp_path_factory.mktemp("front")) as front:
        yield front


@pytest.fixture(scope="module")
def router(fleet, front, tmp_path_factory):
    far, near = fleet.entries
    fleet.write([far, near])
    inventory = tmp_path_factory.mktemp("inventory") / "nodes.yml"
    labels = {**far["labels"], **front.labels}
    inventory.write_text(json.dumps([{**far, "labels": labels}, near]))
    folder = tmp_path_factory.mktemp("router")
    with Router(folder, inventory, prometheus_port=free_port()) as router:
        yield router


def test_a_stream_comes_through_tls(router, front):
    """Polled, chosen, and asked with its token and path; no poll was refused."""
    until(lambda: router.nodes()["far"]["models"], "its models are known")
    body = {"model": MODEL, "prompt": "count: 101", "options": {"num_predict": 30}}
    with router.cordoned("near"):
        answer = router.post("/api/generate", body)
    assert answer.headers["X-InferOps-Node"] == "far"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["done"]
    assert front.refused == 0
    assert "a-token-of-the-proxy" not in "\n".join(router.log())


def test_many_streams_share_it(router):
    """Connections are kept; every text is whole and in order."""
    with (
        router.cordoned("near"),
        Crowd(router.url, (MODEL,), tokens=40, clients=8) as crowd,
    ):
        until(lambda: len(crowd.answers) >= 60, "sixty answers", seconds=60)
    assert {("ok", "far")} == {(each.result, each.node) for each in crowd.answers}


def test_a_stream_moves_on_when_it_dies(router, fleet):
    """A death behind TLS is noticed as any other: the client sees one stream."""
    with Crowd(router.url, (MODEL,), tokens=100, clients=6) as crowd:
        with router.cordoned("near"):
            until(lambda: len(crowd.answers) >= 12, "everybody streams", seconds=60)
        fleet.put("far", "cut")
        at = time.monotonic()
        until(lambda: len(crowd.since(at)) >= 12, "they go on", seconds=60)
    fleet.clear("far")
    assert {"ok"} == {answer.result for answer in crowd.answers}


def test_the_exporter_asks_it_as_well(front, fleet):
    """/probe reads the same labels."""
    given = Access(token_file=str(front.key), ca_file=str(front.ca))
    deadline = time.monotonic() + 10
    said = get_json(f"{front.url}/api/version", deadline, given)
    assert isinstance(said, dict)
    assert "version" in said
    with pytest.raises(NoAnswerError, match="certificate verify failed"):
        get_json(f"{front.url}/api/version", deadline)
