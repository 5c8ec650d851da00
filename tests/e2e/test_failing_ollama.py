"""The same on real Ollama nodes: failing loads, bad requests, builds, a stuck model."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from router.failover.verdict import Blame, judge
from tests.harness.counting import listen, request_of
from tests.harness.counting_model import (
    MODELFILE,
    SLOW,
    Shape,
    write_counting_model,
)
from tests.harness.inventory import write_inventory
from tests.harness.ollama import MODEL, RealOllama, ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH"),
]

STUCK = 50  # the number that the model named stuck says for ever
ROUTES = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions")
OTHERS = ("/v1/responses", "/v1/messages")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Two nodes with the counting models, and one more that is stuck at 50."""
    cache = tmp_path_factory.mktemp("gguf")
    models = {MODEL: Shape(), "slow": SLOW, "stuck": Shape(stuck=STUCK)}
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    with (
        RealOllama(folders[0], models=models, cache=cache) as one,
        RealOllama(folders[1], models=models, cache=cache) as two,
    ):
        yield {"one": one, "two": two}


@pytest.fixture
def router(tmp_path, nodes):
    with before(tmp_path, nodes) as made:
        yield made


@pytest.fixture(scope="module")
def calm(tmp_path_factory, nodes):
    """One router for the tests that open no circuit."""
    with before(tmp_path_factory.mktemp("calm"), nodes) as made:
        yield made


def before(folder, nodes):
    urls = {name: node.url for name, node in nodes.items()}
    inventory = write_inventory(folder / "nodes.yml", urls, slots=None)
    return Router(folder, inventory, prometheus_port=free_port())


def body_of(path, model=MODEL, prompt="5", **more):
    """A small request on a route."""
    body = {"model": model, "stream": False, "options": {"num_predict": 3}, **more}
    if path in {"/api/chat", "/v1/chat/completions", "/v1/messages"}:
        body["messages"] = [{"role": "user", "content": prompt}]
    elif path == "/v1/responses":
        body |= {"input": prompt, "max_output_tokens": more.get("max_tokens", 3)}
    else:
        body["prompt"] = prompt
    return body


TOOL = {"name": "f", "description": "d", "parameters": {"type": "object"}}
# What is wrong, and with what it may be asked; each is refused on some of the routes.
BAD: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function", "function": TOOL}]},
    "think": {"think": True},
    "think level": {"think": "ultra"},
    "effort": {"reasoning_effort": "ultra"},
    "suffix": {"suffix": "x"},
    "images": {"images": ["!!!"]},
    "format": {"format": "xml"},
    "schema": {"format": {"type": "nonsense"}},
    "option": {"options": {"temperature": "hot"}},
    "keep alive": {"keep_alive": "soon"},
    "messages": {"messages": "x"},
    "no messages": {"messages": []},
    "content": {"messages": [{"role": "user", "content": 5}]},
    "prompt": {"prompt": [1, 2]},
    "raw": {"raw": True, "template": "x"},
    "template": {"template": "{{ .Nope"},
    "logprobs": {"logprobs": True, "top_logprobs": 99},
    "input": {"input": [1, 2]},
    "item": {"input": [{"type": "nonsense"}]},
    "max tokens": {"max_tokens": 0},
    "stream": {"stream": "yes"},
}


@pytest.mark.parametrize("what", BAD)
def test_verdicts_on_ollama(nodes, what):
    """Each refusal of a bad request, on each route, is known to be the request's."""
    refused = 0
    for path in (*ROUTES, *OTHERS, "/api/embed", "/v1/embeddings"):
        url = nodes["one"].url + path
        body = body_of(path, max_tokens=2) | {"input": "5"} | BAD[what]
        answer = requests.post(url, json=body, timeout=60)
        if answer.status_code < 400:
            continue
        refused += 1
        kind = answer.headers["Content-Type"]
        verdict = judge(path, answer.status_code, kind, answer.content)
        assert verdict is not None
        assert Blame.REQUEST is verdict.blame, (path, answer.status_code, answer.text)
    assert refused


def test_a_node_that_loses_its_runner_in_each_load(router, nodes):
    """Nobody fails on any route, and the node is down; mended, it is back."""
    stop = threading.Event()

    def kill():
        with nodes["one"].log.open(errors="replace") as log:
            log.seek(0, 2)
            while not stop.is_set():
                line = log.readline()
                if "msg=load" in line or "load request=" in line:
                    nodes["one"].kill_runners()
                elif not line:
                    stop.wait(0.001)

    def ask(path, model):
        return router.post(path, body_of(path, model, max_tokens=3))

    unload(nodes["one"])
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        asked = list(itertools.product((*ROUTES, *OTHERS), (MODEL, "slow"))) * 2
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(ask, *zip(*asked, strict=True)))
        assert [200] * len(asked) == [each.status_code for each in answers]
        assert "down" == router.nodes()["one"]["state"]
        lost = sum(int(each.headers["X-InferOps-Attempts"]) - 1 for each in answers)
        assert 1 <= lost <= 5
    finally:
        stop.set()
        killer.join()
    requests.post(f"{router.url}/admin/nodes/one/trial", json={}, timeout=10)
    until(lambda: router.nodes()["one"]["schedulable"], "it is back", seconds=60)


def unload(node):
    """Have a node forget what it has loaded."""
    for model in (MODEL, "slow", "stuck"):
        body = {"model": model, "keep_alive": 0}
        requests.post(f"{node.url}/api/generate", json=body, timeout=60)
    resident = f"{node.url}/api/ps"
    until(lambda: not requests.get(resident, timeout=5).json()["models"], "it forgot")


def test_a_request_that_ends_runners(router, nodes):
    """`num_batch: 0` ends 0.17.4's runner in each load: two die, a stream goes on."""
    heard = {}

    def stream():
        path = "/api/chat"
        body = request_of(path, "slow", 60)
        heard["stream"] = listen(router.url, path, body)

    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(stream)
        until(
            lambda: any(n["in_flight"] for n in router.nodes().values()),
            "a stream is under way",
        )
        body = body_of("/api/generate", options={"num_batch": 0, "num_predict": 1})
        answers = [router.post("/api/generate", body, timeout=120) for _ in range(2)]
        beside.result()
    assert [422, 422] == [each.status_code for each in answers]
    assert ["2", "0"] == [each.headers["X-InferOps-Attempts"] for each in answers]
    assert heard["stream"].ended
    assert [*range(104, 104 + 60)] == heard["stream"].numbers
    assert 200 == router.post("/api/generate", body_of("/api/generate")).status_code


def test_a_request_that_ends_servers(tmp_path):
    """A context out of range aborts `ollama serve`: two of three go, not the third."""
    cache = tmp_path / "gguf"
    fleet = {}
    try:
        for name in ("a", "b", "c"):
            fleet[name] = RealOllama(tmp_path / name, cache=cache)
        urls = {name: node.url for name, node in fleet.items()}
        inventory = write_inventory(tmp_path / "nodes.yml", urls)
        with Router(tmp_path, inventory, prometheus_port=free_port()) as router:
            body = body_of("/api/generate", context=[10**9])
            for attempts in ("2", "0"):
                answer = router.post("/api/generate", body, timeout=120)
                assert 422 == answer.status_code, answer.text
                assert attempts == answer.headers["X-InferOps-Attempts"]
            running = [each for each in fleet.values() if each.process.running]
            assert 1 == len(running)
            good = router.post("/api/generate", body_of("/api/generate"))
            assert 200 == good.status_code
    finally:
        for each in fleet.values():
            each.stop()


def test_two_builds_of_a_tag(tmp_path):
    """A node whose build knows no tools is passed over; an error names both builds."""
    weights = write_counting_model(tmp_path / "gguf").resolve()
    plain = MODELFILE.format(gguf=weights)
    knows = "{{ if .Tools }}{{ end }}{{ range .Messages }}{{ if .ToolCalls }}9{{ end }}"
    with_tools = plain.replace("{{ range .Messages }}", knows)
    with (
        RealOllama(tmp_path / "old", models={}) as old,
        RealOllama(tmp_path / "new", models={}) as new,
    ):
        old.create("mix", plain)
        new.create("mix", with_tools)
        urls = {"old": old.url, "new": new.url}
        inventory = write_inventory(tmp_path / "nodes.yml", urls)
        with Router(tmp_path, inventory, prometheus_port=free_port()) as router:
            for path in ("/api/chat", "/v1/chat/completions"):
                body = body_of(path, "mix", max_tokens=3, **BAD["tools"])
                for _ in range(3):
                    answer = router.post(path, body)
                    assert 200 == answer.status_code, answer.text
                    assert "new" == answer.headers["X-InferOps-Node"]
            assert all(n["circuits"] == [] for n in router.nodes().values())
            answer = router.post("/api/chat", body_of("/api/chat", "mix", think=True))
            assert 400 == answer.status_code
            told = answer.json()["error"]
            assert told.startswith('"mix" does not support thinking (the fleet has 2')
            assert " on old" in told
            assert " on new" in told


def ended(path, text):
    """Say how a stream or a whole reply ended, in the dialect's own words."""
    for word in ('"done_reason":"length"', '"finish_reason":"length"'):
        if word in text:
            return True
    stopped = '"stop_reason":"max_tokens"', '"status":"incomplete"'
    return any(word in text for word in stopped)


@pytest.mark.parametrize("path", [*ROUTES, *OTHERS])
@pytest.mark.parametrize("slow", [False, True], ids=["at once", "in mid-stream"])
def test_a_model_that_repeats_a_token(calm, path, slow):
    """It is the answer's end: said so, on the first node, and nobody is at fault."""
    prompt = "9" if slow else "47"
    body = body_of(path, "stuck", prompt, max_tokens=300)
    body |= {"options": {"num_predict": 300}}
    for stream in (False, True):
        answer = calm.post(path, body | {"stream": stream})
        assert 200 == answer.status_code, answer.text
        assert "1" == answer.headers["X-InferOps-Attempts"]
        assert 31 == answer.text.count(f" {STUCK}")  # as a real one stops
        assert ended(path, answer.text), answer.text[-300:]
        assert 'error":{' not in answer.text
        assert '"error":"' not in answer.text
    last = answer.text.rstrip().splitlines()[-1]
    ends = {"/v1/chat/completions": "data: [DONE]", "/v1/completions": "data: [DONE]"}
    assert last == ends.get(path, last)
    if path.startswith("/api/"):
        assert json.loads(last)["done"]
    assert all(node["circuits"] == [] for node in calm.nodes().values())


def test_where_nothing_is_kept_of_the_text(calm):
    """A stream with tools, or a format, ends as well."""
    body = body_of("/api/chat", "stuck", "47", format="", options={"num_predict": 300})
    body |= {"stream": True, "think": False, "tools": []}
    answer = calm.post("/api/chat", body)
    assert json.loads(answer.text.splitlines()[-1])["done_reason"] == "length"
