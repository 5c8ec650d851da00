"""Jobs in a PostgreSQL behind PgBouncer: an accepted job moves, or says why."""

from __future__ import annotations

import pytest

from tests.harness.jobs import begin, each_once, ended, job, requests_file
from tests.harness.pgbouncer import PgBouncer, postgres_to_pool
from tests.harness.poll import until
from tests.harness.tallied_node import MODEL, TalliedNode

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

ITEMS = 150


@pytest.fixture
def postgres():
    with postgres_to_pool() as cluster:
        yield cluster


@pytest.fixture
def nodes():
    return [TalliedNode(name, seconds=0.15) for name in ("one", "two")]


def done(router, name):
    """Count what is done; 0 while the database does not answer."""
    answer = router.get(f"/v1/jobs/{name}")
    return answer.ok and answer.json()["progress"]["items"]["done"]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_job_goes_on_whatever_happens_to_either(start, nodes, postgres, mode):
    """The pooler is restarted and hangs, the server restarts; each item once."""
    with PgBouncer(postgres, pool_mode=mode, server_login_retry=1) as pooler:
        router = start(nodes, JOBS__DATABASE=pooler.url(), JOBS__LEASE_SECONDS="5")
        name = begin(router, requests_file(ITEMS, MODEL))
        until(lambda: done(router, name) > 5, "begun")
        pooler.restart()
        until(lambda: done(router, name) > 40, "going on", seconds=60)
        postgres.restart()
        until(lambda: done(router, name) > 80, "going on", seconds=60)
        pooler.freeze()
        try:
            question = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
            assert router.post("/v1/chat/completions", question).ok
        finally:
            pooler.thaw()
        until(lambda: done(router, name) == ITEMS, "all are done", seconds=60)
        assert "completed" == ended(router, name)["state"]
        each_once(router, name, ITEMS)


def test_a_pooler_that_cannot_serve_is_named(start, nodes, postgres):
    """Statement pooling: who asks is told what to change; then jobs are taken."""
    with PgBouncer(postgres, pool_mode="statement") as pooler:
        router = start(nodes, JOBS__DATABASE=pooler.url())
        wanted = "whose pool_mode must be 'transaction' or 'session'"
        until(lambda: wanted in router.get("/v1/jobs").text, "the reason is told")
        question = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        assert 200 == router.post("/v1/chat/completions", question).status_code
        pooler.set(pool_mode="transaction")
        until(lambda: router.get("/v1/jobs").ok, "jobs are there", seconds=30)
        name = begin(router, requests_file(5, MODEL))
        assert "completed" == ended(router, name)["state"]


def test_a_dataset_is_read_by_way_of_the_pooler(start, nodes, postgres):
    """Its rows are copied: another router may run them, and has no such file."""
    with PgBouncer(postgres, pool_mode="transaction") as pooler:
        router = start(nodes, JOBS__DATABASE=pooler.url())
        lines = "".join(f"{n},text {n}\n" for n in range(50))
        call = {
            "files": {"file": ("rows.csv", f"id,text\n{lines}".encode())},
            "data": {"model": MODEL, "template": "say {{ text }}"},
        }
        name = router.post("/v1/jobs", **call).json()["id"]
        assert "completed" == ended(router, name)["state"]
        found = router.get(f"/v1/jobs/{name}/results").text.splitlines()
        assert 50 == len(found)
        assert 50 == job(router, name)["progress"]["items"]["done"]
