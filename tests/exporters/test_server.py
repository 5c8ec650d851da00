"""Sockets that trickle or do not read: the exporter is there for the next scrape."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from exporters.server import HEAD_SECONDS, MOST_CONNECTIONS
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process

pytestmark = pytest.mark.e2e

TASKS = 128  # as TasksMax= of the unit
FILES = 1024  # as LimitNOFILE= of the unit


@pytest.fixture
def limits() -> Iterator[list[str]]:
    """Give what runs a program under the unit's limits of tasks and files."""
    group = Path(f"/sys/fs/cgroup/pids/inferops-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "pids.max").write_text(str(TASKS))
    except OSError as error:
        pytest.skip(f"needs a cgroup of its own: {error}")
    script = f'ulimit -n {FILES}; echo $$ >{group}/cgroup.procs; exec "$@"'
    yield ["sh", "-c", script, "sh"]
    until(lambda: not (group / "cgroup.procs").read_text(), "all have left it")
    group.rmdir()


@pytest.fixture
def port(tmp_path, limits) -> Iterator[int]:
    """An exporter as its unit runs it."""
    port = free_port()
    argv = [sys.executable, "-m", "exporters", f"--listen=127.0.0.1:{port}"]
    with Process([*limits, *argv], log=tmp_path / "log", env={"OLLAMA_HOST": ""}):
        health = f"http://127.0.0.1:{port}/healthz"
        until(lambda: requests.get(health, timeout=5).ok, "it is up", seconds=30)
        yield port


@pytest.fixture
def dial(port) -> Iterator[object]:
    with contextlib.ExitStack() as stack:

        def dialled() -> socket.socket:
            peer = socket.create_connection(("127.0.0.1", port), timeout=10)
            return stack.enter_context(peer)

        yield dialled


def scrape(port: int) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)


HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: "


@pytest.mark.parametrize("begin", [b"", b"G", HEAD], ids=["silent", "line", "header"])
def test_sockets_that_trickle(port, dial, begin):
    """However many there are, and however they go on: each scrape is answered."""
    peers = []
    for _ in range(300):
        peers.append(dial())
        with contextlib.suppress(OSError):
            peers[-1].sendall(begin)
    for _ in range(5):
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.sendall(b"x")
        assert scrape(port).status_code == 200


def test_sockets_that_do_not_read(port, dial):
    """Who asks for pages and reads none makes room as well."""
    for _ in range(MOST_CONNECTIONS * 2):
        peer = dial()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        with contextlib.suppress(OSError):
            peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(5):
        assert scrape(port).status_code == 200


def flood(peer: socket.socket) -> None:
    for _ in range(2000):
        peer.sendall(b"X-A: " + b"y" * 5000 + b"\r\n")


def test_head_without_end(port, dial):
    """A client that sends headers for ever is cut off long before it fills memory."""
    peer = dial()
    peer.sendall(b"GET / HTTP/1.1\r\n")
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        flood(peer)
    assert scrape(port).status_code == 200


def test_slow_head_has_a_deadline(port, dial):
    """A byte a second keeps nothing open beyond it."""
    peer = dial()
    peer.sendall(b"GET / HTTP/1.1\r\n")
    peer.settimeout(HEAD_SECONDS + 20)
    assert peer.recv(1) == b""
