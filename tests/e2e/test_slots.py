"""Slots, time limits and memory over real sockets, on simulated and real nodes."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
import requests

from tests.harness.counting_model import Shape
from tests.harness.inventory import write_inventory
from tests.harness.ollama import RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
MEDIUM = Shape(width=512, layers=4, feed_forward=4096)  # slow enough to be watched


def ask(tokens: int = 20, model: str = MODEL, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "count on from 7"}]
    options = {"num_predict": tokens}
    return {"model": model, "messages": messages, "options": options, **more}


def open_stream(router, tokens: int, model: str = MODEL) -> socket.socket:
    """Send a request and read nothing of its reply yet."""
    body = json.dumps(ask(tokens, model)).encode()
    client = socket.create_connection(("127.0.0.1", router.port), timeout=60)
    head = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def in_flight(router) -> int:
    return sum(node["in_flight"] for node in router.nodes().values())


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-Timeout": "soon"},
        {"X-InferOps-Priority": "urgent"},
        {"X-InferOps-Picker": "luckiest"},
    ],
    ids=["time limit", "priority", "policy"],
)
def test_malformed_headers(router, headers):
    """Both headers are named when they are wrong."""
    answer = router.post("/api/chat", ask(2), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(next(iter(headers)))


def test_policy_by_header(router):
    """One request is scheduled by another policy, which explains and counts it."""
    asked = {"X-InferOps-Picker": "session", "X-InferOps-Session": "chat-1"}
    answers = [router.post("/api/chat", ask(2), headers=asked) for _ in range(4)]
    nodes = {answer.headers["X-InferOps-Node"] for answer in answers}
    assert 1 == len(nodes)
    request_id = answers[0].headers["X-Request-Id"]
    told = router.get(f"/admin/explain/{request_id}").json()["attempts"][0]
    assert ("session", *nodes) == (told["picker"], told["picked"])
    decided = f'inferops_decisions_total{{reason="{told["reason"]}"}}'
    assert 0 < router.metric(decided)
    counted = 'inferops_scheduled_seconds_count{picker="session",stage="completion"}'
    assert 4.0 == router.metric(counted)


def slow_down(fleet) -> None:
    for name in ("fast", "slow"):
        fleet.put(name, "slow", factor=1000.0)


def test_time_limit_in_prefill(router, fleet):
    """504 when it is over, and the node is left alone at once."""
    slow_down(fleet)
    limit = {"X-Request-Timeout": "1"}
    answer = router.post("/api/chat", ask(500), headers=limit)
    assert (504, "the request's time limit has passed") == (
        answer.status_code,
        answer.json()["error"],
    )
    assert in_flight(router) == 0
    assert router.metric('inferops_rejections_total{reason="deadline"}') == 1.0


def test_time_limit_in_mid_stream(router, fleet):
    """The stream ends with the protocol's error when its time is over."""
    fleet.put("fast", "slow", factor=20.0)
    limit = {"X-Request-Timeout": "2"}
    answer = router.post("/api/chat", ask(5000), headers=limit)
    lines = answer.text.splitlines()
    assert answer.status_code == 200
    assert json.loads(lines[-1]) == {"error": "the request's time limit has passed"}
    assert len(lines) > 1
    assert in_flight(router) == 0


def test_time_limit_in_the_queue(router, fleet):
    """504 for who waits too long; who is ahead is not disturbed."""
    slow_down(fleet)
    held = [open_stream(router, 5000) for _ in range(8)]
    until(lambda: in_flight(router) == 8, "all slots are taken")
    answer = router.post("/api/chat", ask(2), headers={"X-Request-Timeout": "1"})
    assert answer.status_code == 504
    assert in_flight(router) == 8
    busy = router.get(f"/admin/explain?model={MODEL}").json()["busy"]
    assert {"fast": 4, "slow": 4} == {n: b["limit"] for n, b in busy.items()}
    for client in held:
        client.close()


def test_batch_waits_behind_people(router, fleet):
    """The header puts a request into the queue's second lane."""
    slow_down(fleet)
    held = [open_stream(router, 5000) for _ in range(8)]
    until(lambda: in_flight(router) == 8, "all slots are taken")
    headers = {"X-InferOps-Priority": "batch", "X-Request-Timeout": "5"}
    batch = threading.Thread(
        target=router.post, args=("/api/chat", ask(2)), kwargs={"headers": headers}
    )
    batch.start()
    lane = 'inferops_queue_length{priority="batch"}'
    until(lambda: router.metric(lane) == 1.0, "it waits among the batch")
    batch.join()
    for client in held:
        client.close()


def test_killed_router_comes_back_careful(tmp_path, fleet):
    """What was in use is remembered over a SIGKILL until the nodes look idle."""
    made = Router(tmp_path, fleet.inventory, prometheus_port=free_port())
    notes = tmp_path / "router-state" / "in-use.json"
    with made as router:
        for _ in range(3):
            assert router.post("/api/chat", ask(50)).status_code == 200
        fleet.put("fast", "slow", factor=1000.0)
        held = [open_stream(router, 5000) for _ in range(2)]
        until(lambda: in_flight(router) == 2, "two streams are under way")
        until(
            lambda: sum(json.loads(notes.read_bytes())["counts"].values()) == 2,
            "they are on disk",
        )
        router.process.kill()
    for client in held:
        client.close()
    with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router:
        began = time.monotonic()
        until(
            lambda: not any(n["recovered"] for n in router.nodes().values()),
            "the nodes look idle",
            seconds=15,
        )
        print(f"\nnodes looked idle {time.monotonic() - began:.1f} s after ready")
        fleet.clear("fast")
        assert router.post("/api/chat", ask(2)).status_code == 200
        # The names of before 0.2 stay for one release.
        shown = router.nodes()["fast"]
        for now, before in (("recovered", "leftover"), ("external", "foreign")):
            assert shown[now] == shown[before]
        for name in ("recovered_streams", "leftover_streams", "foreign_load"):
            assert router.metric(f'inferops_{name}{{node="fast"}}') == 0.0


def test_speeds_outlive_a_restart(tmp_path, fleet):
    """After SIGTERM and a start the learned speed is there before any request."""
    with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router:
        node = router.post("/api/chat", ask(50)).headers["X-InferOps-Node"]
        learned = router.nodes()[node]["tokens_per_second"][MODEL]
        router.process.stop()
    with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router:
        assert learned == router.nodes()[node]["tokens_per_second"][MODEL]


# Real Ollama


@pytest.fixture
def real(tmp_path, tmp_path_factory, request):
    """A real Ollama with a slow counting model, and a router that knows no slots."""
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH")
    cache = tmp_path_factory.getbasetemp().parent / "gguf"
    ollama = RealOllama(
        tmp_path / "ollama", models={"slow": MEDIUM}, slots=request.param, cache=cache
    )
    urls = {"real": ollama.url}
    inventory = write_inventory(tmp_path / "nodes.yml", urls, slots=None)
    with ollama, Router(tmp_path, inventory, prometheus_port=free_port()) as router:
        yield router


def chat(router, tokens: int) -> None:
    answer = requests.post(
        f"{router.url}/api/chat", json=ask(tokens, "slow"), timeout=90
    )
    assert answer.status_code == 200
    assert json.loads(answer.text.splitlines()[-1])["done"]


@pytest.mark.parametrize(
    ("real", "ceiling"), [(1, 1), (2, 2)], indirect=["real"], ids=["one", "two"]
)
def test_ceiling_of_a_real_node_is_learned(real, ceiling):
    """`OLLAMA_NUM_PARALLEL` is found by a trial, and not exceeded."""
    chat(real, 5)
    long = threading.Thread(target=chat, args=(real, 80))
    long.start()
    until(lambda: in_flight(real) == 1, "one stream is under way")
    silent = 'inferops_silent_requests{model="slow:latest",node="real",reply="stream"}'
    until(lambda: in_flight(real) == 1 and real.metric(silent) is None, "it decodes")
    chat(real, 20)
    long.join()
    node = real.nodes()["real"]
    assert ceiling == node["ceiling"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("real", "ceiling"), [(1, 1), (3, 3)], indirect=["real"], ids=["one", "three"]
)
def test_ceiling_is_learned_while_people_wait(real, ceiling):
    """From nothing, more people than slots: it is found, and not exceeded."""
    began = time.monotonic()
    found: list[float] = []

    def person() -> None:
        while time.monotonic() < began + 20 or not found:
            chat(real, 30)
            if real.nodes()["real"]["ceiling"] == ceiling:
                found.append(time.monotonic() - began)
            if time.monotonic() > began + 120:
                return

    people = [threading.Thread(target=person) for _ in range(5)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    print(f"\n{ceiling} found after {min(found, default=0):.0f} s")
    assert real.nodes()["real"]["ceiling"] == ceiling


@pytest.mark.parametrize("real", [1], indirect=True)
def test_leaving_frees_a_real_slot(real):
    """Whoever leaves the queue, prefill or mid-stream frees the real slot at once."""
    chat(real, 5)
    times = {}
    for phase in ("mid-stream", "prefill", "queue"):
        stream = open_stream(real, 1500, "slow")
        until(lambda: in_flight(real) == 1, "a stream is under way")
        if phase == "mid-stream":
            assert stream.recv(1)
        if phase == "queue":
            waiter = open_stream(real, 5, "slow")
            # The first of them is the trial of a second slot; it waits in Ollama.
            until(lambda: in_flight(real) == 2 or waiting(real), "it waits")
            waiter.close()
            until(lambda: in_flight(real) == 1 and not waiting(real), "it is gone")
        began = time.monotonic()
        stream.close()
        until(lambda: in_flight(real) == 0, "the router's slot is free", seconds=5)
        freed = time.monotonic() - began
        with open_stream(real, 3, "slow") as following:
            assert following.recv(1)
            times[phase] = (freed, time.monotonic() - began)
            while piece := following.recv(65536):
                if piece.endswith(b"0\r\n\r\n"):
                    break
    for phase, (freed, first) in times.items():
        print(f"\n{phase}: slot free {freed:.3f} s, next first token {first:.3f} s")
        assert first < 5


def waiting(router) -> bool:
    return bool(router.metric('inferops_queue_length{priority="interactive"}'))
