"""The router is killed with -9 again and again: each item has exactly one result.

CRASH_KILLS=50 runs the whole of it; a few kills do for every day.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from random import Random

import pytest

from tests.harness.jobs import begin, each_once, ended, job, requests_file
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres, postgres_folder
from tests.harness.router import Router
from tests.harness.tallied_node import MODEL, TalliedNode, write_inventory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLS = int(os.environ.get("CRASH_KILLS", "3"))
ITEMS = 200
SLOTS = 4


@pytest.fixture
def nodes(tmp_path):
    """Two nodes; the job lasts longer than what is done to it."""
    seconds = max(0.15, 0.01 * KILLS)
    with (
        TalliedNode("one", slots=SLOTS, seconds=seconds) as one,
        TalliedNode("two", slots=SLOTS, seconds=seconds) as two,
    ):
        yield one, two


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def database(request):
    """Where jobs are kept, as a setting."""
    if request.param == "sqlite":
        yield {}
        return
    if postgres_folder() is None:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    with Postgres() as postgres:
        yield {"JOBS__DATABASE": postgres.url, "JOBS__LEASE_SECONDS": "2"}


def test_a_router_that_is_killed_loses_nothing(tmp_path, nodes, database):
    """Each item one result, none lost; repeated is at most what was in flight."""
    rng = Random(7)
    inventory = write_inventory(tmp_path / "nodes.yml", nodes)
    router = Router(tmp_path, inventory, prometheus_port=free_port(), settings=database)
    try:
        router.wait_ready()
        name = begin(router, requests_file(ITEMS, MODEL))
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.0, 0.6))  # the moment is the point, not a state
            router.process.kill()
            router.process.start()
            if rng.random() < 0.8:  # otherwise it is killed while it starts
                router.wait_ready()
        router.wait_ready()
        ended(router, name, seconds=300)
        each_once(router, name, ITEMS)
        # Of slow items at the end a second attempt is made, which is no repetition.
        copies = router.metric("inferops_job_copies_total") or 0
    finally:
        router.stop()
    seen: Counter[str] = sum((node.seen for node in nodes), Counter())
    begun = sum(count for request, count in seen.items() if request)
    print(f"{KILLS} kills: {begun - ITEMS} of {ITEMS} items were repeated")
    assert ITEMS <= begun <= ITEMS + KILLS * SLOTS * len(nodes) + copies


@pytest.mark.long
def test_nodes_that_die_and_return_lose_nothing(tmp_path, nodes):
    """A node dies with items in flight, and again; every item is answered once."""
    one, _ = nodes
    inventory = write_inventory(tmp_path / "nodes.yml", nodes)
    with Router(tmp_path, inventory, prometheus_port=free_port()) as router:
        name = begin(router, requests_file(ITEMS, MODEL), attempts=20)
        for _ in range(4):
            until(lambda: one.name in job(router, name)["progress"]["nodes"], "busy")
            one.die()
            until(
                lambda: one.name not in job(router, name)["progress"]["nodes"], "idle"
            )
            one.come_back()
        ended(router, name, seconds=120)
        each_once(router, name, ITEMS)


@pytest.mark.long
def test_every_node_dead_for_a_while_loses_nothing(tmp_path, nodes):
    """With no node at all the job waits and says why; then it goes on."""
    inventory = write_inventory(tmp_path / "nodes.yml", nodes)
    with Router(tmp_path, inventory, prometheus_port=free_port()) as router:
        name = begin(router, requests_file(ITEMS, MODEL))
        until(lambda: job(router, name)["progress"]["items"]["done"] > 20, "begun")
        for node in nodes:
            node.die()
        until(
            lambda: "no node may take" in (job(router, name)["why_idle"] or ""),
            "the job says why it stands",
        )
        for node in nodes:
            node.come_back()
        ended(router, name, seconds=120)
        each_once(router, name, ITEMS)
