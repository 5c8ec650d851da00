"""A slow node does not hold up a job's end: what it has is run a second time."""

from __future__ import annotations

import pytest

from tests.harness.jobs import dataset, ended, job, results
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NODES = (
    Simulated("quick", slots=2, tokens_per_second=400.0),
    Simulated("slow", slots=2, tokens_per_second=6.0, tflops=2.0),
)
TOKENS = 120


def test_what_a_slow_node_holds_is_copied(tmp_path):
    """The first to finish counts; the slow node's connection is closed."""
    rows = b"text\n" + b"".join(b"Count on from %d\n" % n for n in range(60))
    with (
        SimulatedFleet(tmp_path, NODES) as fleet,
        Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router,
    ):
        made = dataset(
            router,
            "rows.csv",
            rows,
            model="llama3.2:3b",
            template="{{ text }}",
            options={"num_predict": TOKENS, "temperature": 0},
        )
        found = ended(router, made["id"])
        answers = results(router, made["id"])
        alone = TOKENS / (6.0 * 0.6)  # one item there, beside another one
        assert found["progress"]["seconds"] < alone
        assert found["progress"]["copies"] >= 1
        assert found["progress"]["wasted_tokens"] > 0
        assert (60, 0) == tuple(
            found["progress"]["items"][k] for k in ("done", "failed")
        )
        assert [str(n) for n in range(60)] == [each["key"] for each in answers]
        assert "quick" in {each["node"] for each in answers}
        assert job(router, made["id"])["state"] == "completed"
