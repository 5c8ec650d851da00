"""A job that seems to kill its router again and again is parked, and says so."""

from __future__ import annotations

import pytest

from tests.harness.jobs import batch, begin, ended, job, requests_file
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.tallied_node import MODEL, TalliedNode, write_inventory

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def node():
    """One whose answers do not come before it is told to."""
    with TalliedNode("one", slots=2, seconds=600) as made:
        yield made


@pytest.fixture
def router(tmp_path, node):
    inventory = write_inventory(tmp_path / "nodes.yml", [node])
    quick = {"SHUTDOWN__GRACE_SECONDS": "1"}
    with Router(
        tmp_path, inventory, prometheus_port=free_port(), settings=quick
    ) as made:
        yield made


def runs(router, name):
    return job(router, name)["progress"]["nodes"]


def test_a_job_whose_router_died_three_times_is_parked(router, node):
    """It says why; others run; it can be cancelled, or resumed and ends well."""
    name, given_up = (begin(router, requests_file(1, MODEL)) for _ in range(2))
    both = (name, given_up)
    for _ in range(3):
        until(lambda: all(runs(router, each) for each in both), "they run", seconds=60)
        router.process.kill()
        router.process.start()
        router.wait_ready()
    until(lambda: all(job(router, each)["parked"] for each in both), "parked")
    found = job(router, name)
    why = "the router died 3 times in a row while it ran this job, which got no further"
    assert (why, True, "in_progress") == (
        found["parked"],
        found["paused"],
        found["state"],
    )
    assert f"inferops jobs resume {name}" in found["why_idle"]
    (error,) = batch(router, name)["errors"]["data"]
    assert ("job_parked", True) == (error["code"], why in error["message"])
    assert router.metric("inferops_jobs_parked") == 2.0
    assert router.post(f"/v1/jobs/{given_up}/cancel").ok
    assert "cancelled" == ended(router, given_up)["state"]

    node.seconds = 0.05
    other = begin(router, requests_file(2, MODEL))
    assert "completed" == ended(router, other)["state"]
    assert not runs(router, name)

    assert router.post(f"/v1/jobs/{name}/resume").json()["parked"] is None
    assert "completed" == ended(router, name)["state"]


def test_a_router_that_ends_in_order_parks_nothing(router):
    """However often it is started anew."""
    name = begin(router, requests_file(2, MODEL), preemption="after_item")
    for _ in range(3):
        until(lambda: runs(router, name), "its items are in flight", seconds=60)
        router.process.stop()
        router.process.start()
        router.wait_ready()
    until(lambda: runs(router, name), "its items are in flight", seconds=60)
    assert job(router, name)["parked"] is None
