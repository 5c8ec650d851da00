"""A node that fails costs no request while another is well: real router, played nodes.

Each kind of failure that people report of such fleets, as a node shows it: words of
Ollama's, a proxy's pages, silence, nonsense.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from tests.harness.cases import long_but
from tests.harness.inventory import write_inventory
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.scripted_node import ScriptedNode, answers

pytestmark = pytest.mark.e2e

MODEL = "m:latest"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
LOGIN = b"<!DOCTYPE html><html><title>Sign in</title></html>"
CLIENTS, EACH = 12, 5
DIED = "model runner has unexpectedly stopped, this may be due to resource limitations"


@contextlib.contextmanager
def fleet(folder, *scripts, slots=2, settings=None, **node):
    """Nodes n0, n1 … with these scripts, and the router before them."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(ScriptedNode(s, **node)) for s in scripts]
        urls = {f"n{i}": each.url for i, each in enumerate(nodes)}
        inventory = write_inventory(folder / "nodes.yml", urls, slots=slots)
        router = Router(
            folder, inventory, prometheus_port=free_port(), settings=settings
        )
        yield stack.enter_context(router), nodes


def crowd(router, body, path="/api/chat", clients=CLIENTS, each=EACH):
    """Have clients ask one after the other; count statuses."""

    def client(_):
        return [router.post(path, body).status_code for _ in range(each)]

    with ThreadPoolExecutor(clients) as pool:
        return Counter(chain.from_iterable(pool.map(client, range(clients))))


def error(status, text):
    return lambda exchange: exchange.error(status, text)


def page(status, body=LOGIN, kind="text/html"):
    return lambda exchange: exchange.reply(status, body, kind)


def lines(*pieces, kind="application/x-ndjson"):
    return lambda exchange: exchange.stream(pieces, kind)


FAILURES = {
    "gpu": error(
        500, "llama runner process has terminated: CUDA error: launch failure"
    ),
    "load": error(500, "model failed to load, this may be due to resource limitations"),
    "memory": error(
        500, "model requires more system memory (9.0 GiB) than is available"
    ),
    "blob": error(500, "open /root/.ollama/models/blobs/sha256-1: no such file"),
    "runner": error(500, DIED),
    "unknown words": error(500, "boom"),
    "unknown 400": error(400, "boom"),
    "model missing": error(404, "model 'm' not found"),
    "bare 404": page(404, b"404 page not found", "text/plain"),
    "401": page(401, b'{"detail":"no token"}', "application/json"),
    "403": page(403, b"", "text/plain"),
    "412": page(412),
    "login page": page(200),
    "redirect": page(302, b""),
    "bad gateway": page(502, b"<h1>Bad Gateway</h1>"),
    "overloaded": error(
        503, "server busy, please try again.  maximum pending requests"
    ),
    "empty 200": page(200, b""),
    "other JSON": page(200, b'{"status":"ok"}', "application/json"),
    "no token": page(
        200,
        b'{"model":"m","message":{"role":"assistant","content":""},"done":true}',
        "application/json",
    ),
    "error in a 200": page(200, b'{"error":"CUDA error"}', "application/json"),
    "error line": lines(b'{"error":"CUDA error: out of memory"}\n'),
    "empty stream": lines(),
    "html stream": lines(b"<html>\n"),
    "reset": lambda exchange: exchange.reset(),
}


# Asked for a stream; all others for a whole reply.
OF_STREAMS = {"unknown words", "login page", "reset", "no token"}
OF_STREAMS |= {"error line", "empty stream", "html stream"}
# One of each kind of answer; the others take the same ways.
OF_EACH_KIND = {"gpu", "unknown 400", "model missing", "login page", "empty 200"}
OF_EACH_KIND |= {"error in a 200", "error line", "reset", "no token"}


@pytest.mark.parametrize("failure", long_but(FAILURES, OF_EACH_KIND))
def test_fails_at_once(tmp_path, failure):
    """Twelve clients beside it: none fails, at most five attempts are lost."""
    scripts = FAILURES[failure], answers(0.05), answers(0.05)
    stream = failure in OF_STREAMS
    with fleet(tmp_path, *scripts) as (router, nodes):
        assert {200: CLIENTS * EACH} == crowd(router, CHAT | {"stream": stream})
        assert 1 <= len(nodes[0].requests) <= 5
        shown = router.nodes()["n0"]
        assert "open" in {each["state"] for each in shown["circuits"]}
        if failure != "model missing":  # that speaks of no other model
            assert "down" == shown["state"]
            assert ["traffic:circuit"] == [hold["source"] for hold in shown["holds"]]
        failed = [
            value
            for line in router.get("/metrics").text.splitlines()
            if line.startswith("inferops_circuit_failures_total{")
            for value in [float(line.rpartition(" ")[2])]
        ]
        assert len(nodes[0].requests) == sum(failed)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/generate"])
def test_other_routes(tmp_path, path):
    """The same on the routes of other clients."""
    body = CHAT | {"prompt": "x", "stream": False}
    scripts = FAILURES["gpu"], answers(0.05), answers(0.05)
    with fleet(tmp_path, *scripts) as (router, nodes):
        assert {200: CLIENTS * EACH} == crowd(router, body, path)
        assert len(nodes[0].requests) <= 5


def test_fails_every_other_time(tmp_path):
    """Half of its answers are errors: it is out after a few."""
    flip = iter(range(10_000))

    def half(exchange):
        if next(flip) % 2:
            exchange.error(500, "CUDA error")
        else:
            exchange.answer()

    with fleet(tmp_path, half, answers(0.05), answers(0.05)) as (router, _):
        assert {200: CLIENTS * EACH} == crowd(router, CHAT | {"stream": False})
        until(
            lambda: router.metric('inferops_circuit_openings_total{node="n0"}'),
            "its circuit was open",
        )
        told = router.metric(
            'inferops_circuit_failures_total{cause="gpu_error",node="n0"}'
        )
        assert told <= 6


def test_comes_back_by_a_generation(tmp_path):
    """It is tried by the router, not by clients, and serves again once one passed."""
    settings = {"DISPATCH__CIRCUIT_WAIT_SECONDS": "0.3"}
    with fleet(tmp_path, FAILURES["gpu"], answers(0.05), settings=settings) as (
        router,
        nodes,
    ):
        crowd(router, CHAT | {"stream": False}, each=2)
        lost = len(nodes[0].requests)
        until(lambda: len(nodes[0].asked) > lost + 1, "two trials were made")
        assert lost == len(nodes[0].requests)
        assert "down" == router.nodes()["n0"]["state"]
        nodes[0].script = answers(0.01)
        until(lambda: router.nodes()["n0"]["schedulable"], "it is back", seconds=30)
        crowd(router, CHAT | {"stream": False}, each=2)
        assert len(nodes[0].requests) > lost


def test_one_model_of_two(tmp_path):
    """A model that does not load on one node is asked for elsewhere, others are not."""

    def script(exchange):
        if exchange.fields["model"] == "big:latest":
            exchange.error(500, "model requires more system memory")
        else:
            exchange.answer()

    models = ("m:latest", "big:latest")
    with fleet(tmp_path, script, answers(0.05), models=models) as (router, nodes):
        big = CHAT | {"model": "big:latest", "stream": False}
        assert {200: 24} == crowd(router, big, each=2)
        assert len(nodes[0].requests) <= 5
        assert "schedulable" == router.nodes()["n0"]["state"]
        assert ["big:latest"] == [
            each["model"] for each in router.nodes()["n0"]["circuits"] if each["model"]
        ]
        asked = len(nodes[0].requests)
        assert {200: 24} == crowd(router, CHAT | {"stream": False}, each=2)
        assert len(nodes[0].requests) > asked
        explained = router.get("/admin/explain?model=big").json()["rejected"]
        assert explained["n0"].startswith("circuit open: out_of_memory: ")


def test_a_bad_request_empties_nothing(tmp_path):
    """Requests that every node refuses in words that are not known hold no node."""

    def script(exchange):
        if b"bad" in exchange.body:
            exchange.error(500, "boom")
        else:
            exchange.answer()

    bad = {**CHAT, "bad": True, "stream": False}
    with fleet(tmp_path, script, script, script) as (router, _):
        assert {500: 24} == crowd(router, bad, clients=4, each=6)
        assert all(node["schedulable"] for node in router.nodes().values())
        answer = router.post("/api/chat", bad)
        assert (500, {"error": "boom"}) == (answer.status_code, answer.json())
        assert {200: 24} == crowd(router, CHAT | {"stream": False}, each=2)


def test_the_only_node_keeps_its_own_words(tmp_path):
    """Where there is no other, a client hears what the node says, however often."""
    with fleet(tmp_path, error(500, "model requires more memory")) as (router, _):
        for _ in range(6):
            answer = router.post("/api/chat", CHAT | {"stream": False})
            assert (500, {"error": "model requires more memory"}) == (
                answer.status_code,
                answer.json(),
            )


def poison(exchange):
    """Lose the runner to one request, and with it who streams beside."""
    if b"poison" in exchange.body:
        exchange.error(500, DIED)
    else:
        exchange.answer()


def test_a_request_that_ends_runners(tmp_path):
    """It is named at the second runner, and refused from then on."""
    body = {**CHAT, "messages": [{"role": "user", "content": "poison"}]}
    with fleet(tmp_path, *[poison] * 4) as (router, nodes):
        for attempts, stream in (("2", False), ("0", True), ("0", False)):
            answer = router.post("/api/chat", body | {"stream": stream})
            assert 422 == answer.status_code
            assert "ended the model's runner" in answer.json()["error"]
            assert attempts == answer.headers["X-InferOps-Attempts"]
        assert 2 == sum(len(node.requests) for node in nodes)
        told = router.metric('inferops_rejections_total{reason="request_ends_runners"}')
        assert 3 == told
        assert all(node["schedulable"] for node in router.nodes().values())
        assert {200: 24} == crowd(router, CHAT | {"stream": False}, each=2)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/v1/chat/completions", "request_ends_runners"), ("/v1/messages", None)],
)
def test_it_is_named_in_each_dialect(tmp_path, path, code):
    """In the protocol's own error object, with a status that is not repeated."""
    body = {**CHAT, "messages": [{"role": "user", "content": "poison"}]}
    with fleet(tmp_path, poison, poison) as (router, _):
        answer = router.post(path, body | {"max_tokens": 5})
        assert 422 == answer.status_code
        assert "ended the model's runner" in answer.json()["error"]["message"]
        assert code == answer.json()["error"].get("code")


def test_who_streams_beside_it_is_spared(tmp_path):
    """It is tried again where it can end nobody's stream: one of four is lost."""
    deaths = [0] * 4
    streaming = set()
    going_on = threading.Event()

    def node(number):
        def script(exchange):
            if b"poison" in exchange.body:
                deaths[number] += 1
                exchange.error(500, DIED)
            elif exchange.fields.get("stream", True):
                exchange.stream(pieces(number))
            else:
                exchange.answer()

        return script

    def pieces(number):
        line = b'{"model":"m","message":{"role":"assistant","content":"x"},"done":%s}\n'
        died = deaths[number]
        yield line % b"false"
        streaming.add(number)
        while not going_on.wait(0.02):
            if deaths[number] != died:
                yield b'{"error":"an error was encountered while running the model"}\n'
                return
        yield line % b"true"

    tools = {**CHAT, "tools": [{"type": "function", "function": {"name": "f"}}]}
    body = {"model": MODEL, "stream": False, "prompt": "poison"}
    with fleet(tmp_path, *map(node, range(4))) as (router, _):
        with ThreadPoolExecutor(4) as pool:
            beside = [pool.submit(router.post, "/api/chat", tools) for _ in range(4)]
            until(lambda: len(streaming) == 4, "one streams on each node")
            assert 422 == router.post("/api/generate", body).status_code
            going_on.set()
            ends = [each.result().text.splitlines()[-1] for each in beside]
        assert 2 == sum(deaths)
        assert 3 == sum(bool(json.loads(end).get("done")) for end in ends)


def test_all_down_and_up_again(tmp_path):
    """Who comes while every node is down waits for the first that is back."""
    ports = [free_port(), free_port()]
    urls = {f"n{i}": f"http://127.0.0.1:{port}" for i, port in enumerate(ports)}
    inventory = write_inventory(tmp_path / "nodes.yml", urls)
    settings = {"CONTROL__RESIDENT_INTERVAL_SECONDS": "30"}
    with Router(
        tmp_path, inventory, prometheus_port=free_port(), settings=settings
    ) as router:
        assert {"down"} == {node["state"] for node in router.nodes().values()}
        with ThreadPoolExecutor(4) as pool:
            body = CHAT | {"stream": False}
            asked = [pool.submit(router.post, "/api/chat", body) for _ in range(4)]
            until(
                lambda: sum(router.get("/admin/queue").json()["waiting"].values()) == 4,
                "they wait",
            )
            with ScriptedNode(answers(), port=ports[1]):
                answered = [each.result() for each in asked]
        assert [200] * 4 == [each.status_code for each in answered]
        assert {"n1"} == {each.headers["X-InferOps-Node"] for each in answered}


def test_all_down_for_good(tmp_path):
    """The wait is bounded, and then the client hears of each node why."""
    urls = {"n0": f"http://127.0.0.1:{free_port()}"}
    inventory = write_inventory(tmp_path / "nodes.yml", urls)
    settings = {"DISPATCH__DOWN_WAIT_SECONDS": "0.3"}
    with Router(
        tmp_path, inventory, prometheus_port=free_port(), settings=settings
    ) as router:
        answer = router.post("/api/chat", CHAT)
        assert 503 == answer.status_code
        assert "n0: down: " in answer.json()["error"]
