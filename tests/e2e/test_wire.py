"""The data path over real sockets: real router, simulated nodes, no Prometheus."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import Any

import pytest
import requests

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "count on from 7"}]}


def ask(tokens: int = 20, **more: object) -> dict[str, object]:
    return {**CHAT, "options": {"num_predict": tokens}, **more}


def lines(answer: requests.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.iter_lines() if line]


def text(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["message"]["content"] for c in chunks if "message" in c)


def down(router) -> list[str]:
    return [x for x in router.log() if "event=node_down node=fast" in x]


def holders(router) -> set[str]:
    holds = router.get("/admin/holds").json()
    return {hold["source"] for hold in holds if hold["node"] == "fast"}


def in_flight(router) -> int:
    return sum(node["in_flight"] for node in router.nodes().values())


def test_stream(router):
    """A stream arrives token by token, with the node and the request named."""
    with router.post("/api/chat", ask(20), stream=True) as answer:
        chunks = lines(answer)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["X-InferOps-Node"] == "fast"
    assert answer.headers["X-InferOps-Attempts"] == "1"
    assert len(chunks) == 21
    assert text(chunks).split()[:3] == ["8", "9", "10"]
    assert (True, 20) == (chunks[-1]["done"], chunks[-1]["eval_count"])


def test_whole_reply_and_keep_alive(router):
    """Replies that are no streams come whole, over one connection of the client."""
    with requests.Session() as session:
        for _ in range(3):
            answer = session.post(
                f"{router.url}/api/chat", json=ask(5, stream=False), timeout=20
            )
            assert answer.status_code == 200
            assert answer.json()["eval_count"] == 5


def test_explain_tells_where_a_request_went(router):
    """The id that the client chose finds the decision."""
    router.post("/api/chat", ask(2), headers={"X-Request-Id": "my-own-id"})
    told = router.get("/admin/explain/my-own-id").json()
    assert ("fast", "end") == (told["attempts"][0]["picked"], told["ended"])


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("refuse", {}),
        ("error", {}),
        ("error", {"status": 503, "text": "server busy, please try again."}),
        ("cut", {"tokens": 0}),
        ("cut", {"tokens": 0, "variant": "socket"}),
    ],
    ids=["refused", "dead runner", "busy", "error line first", "reset at once"],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_failover_before_the_first_byte(router, fleet, path, fault, parameters):
    """What fails before the client was sent anything succeeds elsewhere."""
    fleet.put("fast", fault, **parameters)
    answer = router.post(path, {**ask(5), "max_tokens": 5, "stream": True})
    assert answer.status_code == 200
    assert answer.headers["X-InferOps-Node"] == "slow"
    assert "error" not in answer.text


def test_a_refused_connection_holds_the_node_at_once(tmp_path, fleet):
    """The router's own evidence counts, also where no probe would come for long."""
    rarely = dict.fromkeys(
        ("CONTROL__RESIDENT_INTERVAL_SECONDS", "CONTROL__PRESENT_INTERVAL_SECONDS"),
        "600",
    )
    with Router(
        tmp_path,
        fleet.inventory,
        prometheus_port=free_port(),
        settings=rarely,
    ) as router:
        fleet.put("fast", "refuse")
        answer = router.post("/api/chat", ask(2))
        assert answer.headers["X-InferOps-Node"] == "slow"
        node = router.nodes()["fast"]
        assert (False, "down") == (node["schedulable"], node["state"])
        until(lambda: down(router), "the log tells of it")
        (told,) = down(router)
        assert f"request_id={answer.headers['X-Request-Id']}" in told


def test_a_probe_brings_a_refused_node_back(router, fleet):
    """An answer lifts the hold, whoever placed it; the log tells of it once."""
    fleet.put("fast", "refuse")
    assert router.post("/api/chat", ask(2)).headers["X-InferOps-Node"] == "slow"
    until(lambda: holders(router) >= {"probe"}, "the probe has seen it too")
    until(lambda: down(router), "the log tells of it")
    assert len(down(router)) == 1
    fleet.clear("fast")
    until(lambda: router.nodes()["fast"]["schedulable"], "the node is back")


@pytest.mark.parametrize("variant", ["runner", "line", "socket", "clean"])
@pytest.mark.parametrize(
    ("path", "frame"),
    [
        ("/api/chat", '{"error":"node fast '),
        ("/v1/chat/completions", 'data: {"error":{"message":"node fast '),
    ],
)
def test_broken_stream_ends_with_an_error_frame(router, fleet, path, frame, variant):
    """Where continuing would be wrong, the end is an error and never silent."""
    # Slow enough for the first token to be on its way before the cut.
    fleet.put("fast", "slow", factor=20.0)
    fleet.put("fast", "cut", tokens=5, variant=variant)
    body = {**ask(20), "max_tokens": 20, "stream": True, "format": "json"}
    answer = router.post(path, {**body, "response_format": {"type": "json_object"}})
    assert answer.status_code == 200
    last = [line for line in answer.text.split("\n") if line][-1]
    assert last.startswith(frame)
    assert "[DONE]" not in answer.text
    outcome = "refused_to_continue"
    sample = f'inferops_failovers_total{{outcome="{outcome}",phase="mid_stream"}}'
    assert router.metric(sample) == 1.0


def test_all_nodes_fail(router, fleet):
    """With nobody left, not the last one's new runner, the client hears its words."""
    for name in ("fast", "slow"):
        fleet.put(name, "error")
    answer = router.post("/api/chat", ask(2))
    assert answer.status_code == 500
    assert "model runner has unexpectedly stopped" in answer.json()["error"]
    assert answer.headers["X-InferOps-Attempts"] == "3"


def test_unknown_model_in_both_dialects(router):
    """404 in Ollama's words, and in OpenAI's object."""
    body = {**CHAT, "model": "nobody-has-it"}
    ollama = router.post("/api/chat", body)
    openai = router.post("/v1/chat/completions", body)
    assert (404, "model 'nobody-has-it' not found") == (
        ollama.status_code,
        ollama.json()["error"],
    )
    assert (404, "not_found_error") == (
        openai.status_code,
        openai.json()["error"]["type"],
    )


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 400, "missing request body"),
        (b"{", 400, "invalid JSON"),
        (b'{"messages": []}', 400, "model is required"),
        (b"x" * 70_000_000, 413, "the body is over 67108864 bytes"),
    ],
    ids=["empty", "not JSON", "no model", "too large"],
)
def test_bad_requests(router, data, status, message):
    """Each bad body has its status and says what is wrong."""
    answer = requests.post(f"{router.url}/api/chat", data=data, timeout=20)
    assert status == answer.status_code
    assert answer.json()["error"].startswith(message)


def raw_request(router, body: bytes, version: str = "1.1") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", router.port), timeout=10)
    client.sendall(
        f"POST /api/chat HTTP/{version}\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return client


def rest_of(client: socket.socket) -> bytes:
    """Read until the router closes."""
    client.settimeout(20)
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def test_http10_client_gets_plain_lines(router):
    """A client without chunked encoding gets lines and a close."""
    with raw_request(router, json.dumps(ask(3)).encode(), "1.0") as client:
        data = rest_of(client)
    body = data.partition(b"\r\n\r\n")[2]
    assert [json.loads(x)["done"] for x in body.splitlines()] == [False] * 3 + [True]


@pytest.mark.parametrize("phase", ["in mid-stream", "in prefill"])
def test_client_that_leaves_frees_its_slot(router, fleet, phase):
    """The slot is free at once, at the router and at the node."""
    if phase == "in prefill":
        for name in ("fast", "slow"):
            fleet.put(name, "slow", factor=1000.0)
    client = raw_request(router, json.dumps(ask(5000)).encode())
    until(lambda: in_flight(router) == 1, "the request holds a slot")
    if phase == "in mid-stream":
        assert client.recv(1)
    client.close()
    until(lambda: in_flight(router) == 0, "the slot is free", seconds=5)


def test_client_that_leaves_the_queue(router, fleet):
    """Whoever waits and goes away takes no slot later."""
    for name in ("fast", "slow"):
        fleet.put(name, "slow", factor=1000.0)
    body = json.dumps(ask(5000)).encode()
    clients = [raw_request(router, body) for _ in range(9)]
    waiting = 'inferops_queue_length{priority="interactive"}'
    until(lambda: router.metric(waiting) == 1.0, "one waits in the queue")
    clients.pop().close()
    until(lambda: router.metric(waiting) == 0.0, "the queue is empty")
    assert in_flight(router) == 8
    for client in clients:
        client.close()
    until(lambda: in_flight(router) == 0, "all slots are free")


def test_shutdown_lets_streams_finish(router):
    """SIGTERM refuses new work, and a short stream ends well."""
    with raw_request(router, json.dumps(ask(200)).encode()) as client:
        assert client.recv(1)
        os.kill(router.process.pid, signal.SIGTERM)
        data = rest_of(client)
    assert b'"done":true' in data
    assert data.endswith(b"0\r\n\r\n")
    router.process.wait(20)


def test_shutdown_ends_long_streams_with_a_frame(router, fleet):
    """After the grace time a stream ends with the protocol's error, not silently."""
    fleet.put("fast", "slow", factor=20.0)
    with raw_request(router, json.dumps(ask(5000)).encode()) as client:
        assert client.recv(1)
        began = time.monotonic()
        os.kill(router.process.pid, signal.SIGTERM)
        data = rest_of(client)
    assert b'{"error":"the router is shutting down"}\n' in data
    assert data.endswith(b"0\r\n\r\n")
    assert time.monotonic() - began >= 4
    router.process.wait(20)
