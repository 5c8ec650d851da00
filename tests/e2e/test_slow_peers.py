"""Slow peers that go on: clients that send, nodes that take. Each takes many limits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import requests

from tests.harness.inventory import write_inventory
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.slow_node import MODEL, SlowNode
from tests.harness.wire import connect, post, read_answer

pytestmark = pytest.mark.e2e

SETTINGS = {
    "DISPATCH__STALL_TIMEOUT_SECONDS": "2",
    "DISPATCH__FIRST_BYTE_TIMEOUT_SECONDS": "2",
    "DISPATCH__CONNECT_TIMEOUT_SECONDS": "1",
    "DISPATCH__BODY_TIMEOUT_SECONDS": "2",
}


def picture(size: int) -> dict[str, object]:
    message = {"role": "user", "content": "what is this?", "images": ["A" * size]}
    return {"model": MODEL, "stream": False, "messages": [message]}


def inventory(tmp: Path, *nodes: SlowNode) -> Path:
    urls = {f"n{n}": node.url for n, node in enumerate(nodes)}
    return write_inventory(tmp / "nodes.yml", urls, slots=None)


def router_for(tmp: Path, *nodes: SlowNode) -> Router:
    path = inventory(tmp, *nodes)
    return Router(tmp, path, prometheus_port=free_port(), settings=SETTINGS)


def test_a_node_that_is_slow_to_take(tmp_path):
    """A picture goes over a slow link, to the first node that it was sent to."""
    with (
        SlowNode(1e6) as one,
        SlowNode(1e6) as two,
        router_for(tmp_path, one, two) as router,
    ):
        answer = router.post("/api/chat", picture(8_000_000), timeout=120)
        nodes = router.nodes().values()
    assert (200, "1") == (answer.status_code, answer.headers["X-InferOps-Attempts"])
    assert 0 == one.cut_off + two.cut_off
    assert [] == [hold for node in nodes for hold in node["holds"]]


def test_a_node_that_takes_no_more(tmp_path):
    """One that stands still is left for one that does not."""
    with (
        SlowNode(1.0) as stuck,
        SlowNode(1e9) as quick,
        router_for(tmp_path, stuck, quick) as router,
    ):
        for name in ("n1", "n0"):  # the first is asked first
            assert router.post(f"/admin/nodes/{name}/cordon", json={}).ok
        assert router.post("/admin/nodes/n0/uncordon", json={}).ok
        asked = threading.Thread(
            target=lambda: answers.append(
                router.post("/api/chat", picture(8_000_000), timeout=120)
            )
        )
        answers: list[requests.Response] = []
        asked.start()
        until(lambda: router.nodes()["n0"]["in_flight"] == 1, "it is sent there")
        assert router.post("/admin/nodes/n1/uncordon", json={}).ok
        asked.join()
    (answer,) = answers
    assert (200, "2") == (answer.status_code, answer.headers["X-InferOps-Attempts"])
    assert "n1" == answer.headers["X-InferOps-Node"]


@pytest.mark.long
def test_a_client_that_leaves_while_a_node_takes_its_body(tmp_path):
    """Nobody waits for the answer: the slot is free at once."""
    with SlowNode(1e5) as one, router_for(tmp_path, one) as router:
        with pytest.raises(requests.Timeout):
            router.post("/api/chat", picture(8_000_000), timeout=5)
        until(lambda: router.nodes()["n0"]["in_flight"] == 0, "the slot is free")


def test_a_client_that_is_slow_to_send(tmp_path):
    """Its body takes three limits and goes on coming: it is no dead client."""
    data = post("/api/chat", picture(6_000))
    with (
        SlowNode(1e9) as one,
        router_for(tmp_path, one) as router,
        connect(router.port, seconds=60) as client,
    ):
        for at in range(0, len(data), 500):
            client.sendall(data[at : at + 500])
            threading.Event().wait(0.5)
        answer = read_answer(client)
    assert (200, "ok") == (answer.status, answer.json["message"]["content"])
