"""The router's log is a pipe that nobody reads, or a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import requests

from tests.harness.disk import small_disk
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=2000.0),)
DROPPED = "inferops_log_lines_dropped_total"
REQUESTS = 9_500  # of 230 bytes each: beyond the pipe and the queue


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as fleet:
        yield fleet


def refused(session: requests.Session, url: str) -> None:
    """Ask for what no model can be called: a line of the log, and no node's time.

    For a name that a model may have, the nodes are asked: once a second.
    """
    body = {"model": "nobody!has!this", "messages": []}
    assert session.post(f"{url}/api/chat", json=body, timeout=10).status_code == 404


@pytest.mark.long
def test_nobody_reads_the_log(tmp_path, fleet):
    """Each request is answered; what was not written is counted, and told."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    reading, writing = os.pipe()
    settings = {
        "BIND": f"127.0.0.1:{port}",
        "PROMETHEUS__URL": f"http://127.0.0.1:{free_port()}",
        "INVENTORY__PATH": str(fleet.inventory),
        "STATE__DIRECTORY": str(tmp_path / "state"),
    }
    config = str(ROOT / "router" / "gunicorn.conf.py")
    child = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", config, "router.wsgi:app"],
        stdout=writing,
        stderr=writing,
        cwd=ROOT,
        env={**os.environ, **{f"INFEROPS_{n}": v for n, v in settings.items()}},
        start_new_session=True,
    )
    os.close(writing)
    try:
        ready = f"{url}/readyz"
        until(lambda: requests.get(ready, timeout=5).ok, "it is ready", seconds=60)
        with requests.Session() as session:
            for _ in range(REQUESTS):
                refused(session, url)
            text = session.get(f"{url}/metrics", timeout=10).text
        lost = next(line for line in text.splitlines() if line.startswith(DROPPED))
        assert float(lost.rpartition(" ")[2]) > 100
        child.terminate()  # its last lines go the same way
        read = bytearray()
        while piece := os.read(reading, 1 << 20):
            read += piece
        assert child.wait(30) == 0
        assert b"event=log_lines_dropped count=" in read
        assert read.count(b"event=request ") > 5000
    finally:
        os.close(reading)
        if child.poll() is None:
            os.killpg(child.pid, 9)
            child.wait(10)


def test_nobody_reads_and_it_is_to_end(tmp_path, fleet):
    """SIGTERM ends it in its time, whoever does not read its last lines."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while os.write(writing, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(writing, True)
    script = f'exec "$@" >&{writing} 2>&1'
    router = Router(
        tmp_path,
        fleet.inventory,
        prometheus_port=free_port(),
        inside=["bash", "-c", script, "bash"],
        pass_fds=(writing,),
    )
    try:
        router.wait_ready()
        refused(requests.Session(), router.url)
        os.kill(router.process.pid, 15)
        assert router.process.wait(30) == 0
    finally:
        router.stop()
        os.close(reading)
        os.close(writing)


def test_disk_of_the_log_is_full(tmp_path, fleet):
    """It is counted, and requests are answered."""
    with small_disk(tmp_path / "disk") as disk:
        script = f'exec "$@" >{disk.folder}/log 2>&1'
        disk.fill()
        router = Router(
            tmp_path,
            fleet.inventory,
            prometheus_port=free_port(),
            inside=["sh", "-c", script, "sh"],
        )
        with router:
            refused(requests.Session(), router.url)
            until(lambda: (router.metric(DROPPED) or 0) > 0, "lost lines count")
