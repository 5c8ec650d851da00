"""The disk is full, the database is locked or restarted: nothing is lost, nor twice."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from functools import partial

import pytest

from tests.harness.jobs import (
    batch,
    begin,
    each_once,
    ended,
    job,
    requests_file,
)
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres, postgres_folder
from tests.harness.router import Router
from tests.harness.tallied_node import MODEL, TalliedNode

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ITEMS = 200


@pytest.fixture
def nodes():
    """Two nodes with four slots each; the job lasts a few seconds."""
    return [TalliedNode(name, seconds=0.15) for name in ("one", "two")]


def done(router, name):
    """Count what is done; 0 while the database does not answer."""
    answer = router.get(f"/v1/jobs/{name}")
    return answer.ok and answer.json()["progress"]["items"]["done"]


@pytest.mark.long
def test_a_locked_database_delays_only(start, nodes, tmp_path):
    """Results wait in memory, nothing new begins, people are served meanwhile."""
    router = start(nodes)
    name = begin(router, requests_file(ITEMS, MODEL))
    until(lambda: done(router, name) > 10, "begun")
    path = tmp_path / "router-state" / "jobs.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        until(
            lambda: router.metric("inferops_job_store_up") == 0.0,
            "the router sees that it is locked",
        )
        file = router.post(
            "/v1/files", files={"file": ("a", b"{}")}, data={"purpose": "batch"}
        )
        assert 503 == file.status_code
        assert file.headers["Retry-After"]
        question = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        assert 200 == router.post("/v1/chat/completions", question).status_code
        other.execute("ROLLBACK")
    ended(router, name)
    each_once(router, name, ITEMS)
    # Of slow items at the end a second attempt is made, and the person was given a
    # node that items were on: both are no repetition.
    more = router.metric("inferops_job_copies_total") or 0
    more += router.metric('inferops_job_attempts_total{outcome="revoked"}') or 0
    counts = [n for node in nodes for key, n in node.seen.items() if "batch" in key]
    assert ITEMS <= sum(counts) <= ITEMS + more


@pytest.fixture
def postgres():
    """A PostgreSQL that may be restarted."""
    if postgres_folder() is None:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    with Postgres() as cluster:
        yield cluster


def more_done(router, name, least):
    return done(router, name) > least


@pytest.mark.long
def test_postgresql_is_restarted_in_mid_job(start, nodes, postgres):
    """Killed as by the power going out, twice; the job goes on where it was."""
    router = start(nodes, JOBS__DATABASE=postgres.url, JOBS__LEASE_SECONDS="5")
    name = begin(router, requests_file(ITEMS, MODEL))
    for least in (10, 60):
        until(partial(more_done, router, name, least), "going on")
        postgres.restart()
    until(lambda: done(router, name) == ITEMS, "all are done", seconds=60)
    ended(router, name)
    each_once(router, name, ITEMS)


def test_postgresql_is_not_there_at_the_start(start, nodes, postgres):
    """Inference is served all the same; jobs are taken as soon as it answers."""
    postgres.kill()
    router = start(nodes, JOBS__DATABASE=postgres.url)
    question = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    assert 200 == router.post("/v1/chat/completions", question).status_code
    assert 503 == router.get("/v1/jobs").status_code
    postgres.start()
    until(lambda: router.get("/v1/jobs").status_code == 200, "jobs are there")
    name = begin(router, requests_file(5, MODEL))
    ended(router, name)
    each_once(router, name, 5)


@pytest.fixture
def small_disk(tmp_path):
    """A state directory on a file system of twelve MiB."""
    place = tmp_path / "router-state"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here: root is needed")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_uploads_and_delays_jobs(start, nodes, small_disk):
    """Nothing half-made stays; what was accepted ends well once there is room."""
    router = start(nodes)
    name = begin(router, requests_file(ITEMS, MODEL))
    until(lambda: done(router, name) > 10, "begun")
    answer = router.post(
        "/v1/files",
        files={"file": ("large", b"x" * 13_000_000)},
        data={"purpose": "batch"},
    )
    assert (507, "disk_full") == (answer.status_code, answer.json()["error"]["code"])
    files = small_disk / "files"
    assert 1 == len(list(files.iterdir()))
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as out:
        while True:
            out.write(b"x" * 65_536)
            out.flush()
    until(
        lambda: router.metric("inferops_job_store_up") == 0.0,
        "the router sees that the disk is full",
    )
    ballast.unlink()
    ended(router, name)
    each_once(router, name, ITEMS)
    assert "completed" == batch(router, name)["status"]


@pytest.mark.long
def test_two_routers_share_a_job(start, nodes, postgres, tmp_path):
    """Over one PostgreSQL; each item is sent once, by one of them."""
    first = start(nodes, JOBS__DATABASE=postgres.url)
    beside = tmp_path / "beside"
    beside.mkdir()
    inventory = tmp_path / "nodes.yml"
    settings = {"JOBS__DATABASE": postgres.url}
    with Router(
        beside, inventory, prometheus_port=free_port(), settings=settings
    ) as second:
        name = begin(first, requests_file(ITEMS, MODEL))
        until(
            lambda: (
                job(first, name)["progress"]["nodes"]
                and job(second, name)["progress"]["nodes"]
            ),
            "both have items in flight",
        )
        ended(second, name)
        each_once(second, name, ITEMS)
        copies = job(second, name)["progress"]["copies"]
    sent = [n for node in nodes for key, n in node.seen.items() if "batch" in key]
    assert ITEMS + copies == sum(sent)
