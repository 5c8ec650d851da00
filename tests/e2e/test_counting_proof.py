"""The counting proof: real Ollama nodes are killed in mid-stream, on every route.

The counting model says ` 104 105 …`: a gap or a repeat would show. The server is
killed, or its runner, or every process of it is stopped: to the router a node
that takes connections and says nothing. INFEROPS_KILLS=20 makes so many cuts on
each route; prints the pauses that clients saw.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from router.failover.continuation.proof import AnswerSoFar, prove
from router.failover.continuation.request import parse_request
from tests.harness.cases import long_but
from tests.harness.counting import PATHS, Heard, counted, listen, request_of
from tests.harness.counting_model import Shape
from tests.harness.inventory import write_inventory
from tests.harness.ollama import RealOllama, ollama_binary, real_nodes
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH"),
    pytest.mark.timeout(1800),
]

MODEL = "counting"
MERGING = "merging"
NAMES = ("one", "two")
# Slow enough: there is time to kill in mid-stream.
UNHURRIED = Shape(width=512, layers=4, feed_forward=4096)
MODELS = {MODEL: UNHURRIED, MERGING: replace(UNHURRIED, merging=True)}
KINDS = ("server", "runner", "black hole")
KILLS = int(os.environ.get("INFEROPS_KILLS", "3"))
TOKENS = 40
STALL_SECONDS = 4.0
# Two busy cores may make a token in a second; a kill must not come late.
WAIT: dict[str, Any] = {"seconds": 120.0, "every": 0.002}


class Fleet:
    """Real nodes, by name, and the router in front of them."""

    def __init__(self, nodes: dict[str, RealOllama], router: Router) -> None:
        self.nodes = nodes
        self.router = router

    def strike(self, name: str, kind: str) -> None:
        node = self.nodes[name]
        if kind == "server":
            node.kill()
        elif kind == "runner":
            assert node.kill_runners()
        else:
            node.freeze()

    def heal(self, name: str, kind: str) -> None:
        if kind == "server":
            self.nodes[name].restart()
        elif kind == "black hole":
            self.nodes[name].thaw()
        until(
            lambda: all(n["schedulable"] for n in self.router.nodes().values()),
            "all nodes are back",
        )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[Fleet]:
    """Two nodes, warm: the model is loaded, and its speed is known."""
    tmp = tmp_path_factory.mktemp("real")
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(real_nodes(tmp, NAMES, models=MODELS))
        settings = {"DISPATCH__STALL_TIMEOUT_SECONDS": str(STALL_SECONDS)}
        router = stack.enter_context(
            Router(
                tmp,
                inventory(tmp, nodes),
                prometheus_port=free_port(),
                settings=settings,
            )
        )
        for node in nodes.values():
            assert listen(node.url, PATHS[0], request_of(PATHS[0], MODEL, 2)).ended
        yield Fleet(nodes, router)


def inventory(
    tmp: Path, nodes: dict[str, RealOllama], *, slots: int | None = None
) -> Path:
    urls = {name: node.url for name, node in nodes.items()}
    return write_inventory(tmp / "nodes.yml", urls, slots=slots)


@pytest.mark.parametrize("path", long_but(PATHS, {"/api/chat"}))
def test_killed_node(fleet, path, capsys):
    """The text counts on, the counters are the whole answer's; the pause is told."""
    rng = random.Random(path)
    whole = listen(fleet.router.url, path, request_of(path, MODEL, TOKENS))
    assert whole.numbers == counted(TOKENS)
    told = []
    for number in range(KILLS):
        kind = KINDS[number % len(KINDS)]
        at = rng.randint(1, TOKENS - 3)
        heard, pause = killed(fleet, path, kind, at)
        what = f"{kind} at {at}"
        told.append(f"{what}: {pause:.2f} s")
        assert heard.error is None, what
        assert counted(TOKENS) == heard.numbers, what
        assert (whole.reason, TOKENS) == (heard.reason, heard.generated), what
        assert (whole.prompt, 1) == (heard.prompt, len(heard.ids)), what
        assert [*whole.lines[-1]] == [*heard.lines[-1]], what
        if path == "/api/generate":
            assert whole.lines[-1]["context"] == heard.lines[-1]["context"]
    with capsys.disabled():
        print(f"\n  {path}: pauses: {'; '.join(told)}")


def killed(
    fleet: Fleet, path: str, kind: str, at: int, model: str = MODEL
) -> tuple[Heard, float]:
    """Stream, and strike the node that serves after `at` lines."""
    heard = Heard()
    body = request_of(path, model, TOKENS)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(listen, fleet.router.url, path, body, heard=heard)
        until(lambda: len(heard.lines) >= at, "the stream is under way", **WAIT)
        victim = heard.node
        fleet.strike(victim, kind)
        stream.result(timeout=180)
    fleet.heal(victim, kind)
    return heard, max(b - a for a, b in pairwise(heard.times))


@pytest.mark.parametrize("path", PATHS)
def test_small_context(fleet, path):
    """Where the window is shorter than the answer, nothing is lost or repeated."""
    if path.startswith("/v1/"):
        pytest.skip("the protocol has no num_ctx")
    body = request_of(path, MODEL, TOKENS, options={"num_ctx": 32})
    heard = Heard()
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(listen, fleet.router.url, path, body, heard=heard)
        until(lambda: len(heard.lines) >= 30, "the window is full", **WAIT)
        victim = heard.node
        fleet.strike(victim, "runner")
        stream.result(timeout=180)
    assert (None, counted(TOKENS)) == (heard.error, heard.numbers)
    assert heard.generated == TOKENS


@pytest.mark.parametrize("path", PATHS)
def test_stop_string_after_the_seam(fleet, path):
    """A stop string is met behind the seam, also one over several tokens."""
    body = request_of(path, MODEL, TOKENS)
    stop = ["29 130 13"]
    if path.startswith("/v1/"):
        body["stop"] = stop
    else:
        body["options"]["stop"] = stop
    whole = listen(fleet.router.url, path, body)
    heard = Heard()
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(listen, fleet.router.url, path, body, heard=heard)
        until(lambda: len(heard.lines) >= 20, "the stop is near", **WAIT)
        fleet.strike(heard.node, "runner")
        stream.result(timeout=180)
    assert (whole.text, "stop") == (heard.text, heard.reason)
    assert whole.generated == heard.generated


# The prompt ends in 103, and `103 104` is one token: already the first number said
# merges with the prompt.
@pytest.fixture(scope="module", params=["/api/generate", "/v1/chat/completions"])
def undisturbed(fleet, request) -> tuple[str, Heard]:
    """A route, and what is heard there of the merging model when nothing is killed."""
    path = request.param
    whole = listen(fleet.router.url, path, request_of(path, MERGING, TOKENS))
    assert whole.numbers == counted(TOKENS)
    return path, whole


@pytest.mark.parametrize("at", [1, 10, 25])
def test_merging_vocabulary(fleet, undisturbed, at):
    """Where text so far has fewer tokens than were said, all goes on and ends alike."""
    path, whole = undisturbed
    heard, _ = killed(fleet, path, "server", at, MERGING)
    assert (None, counted(TOKENS)) == (heard.error, heard.numbers)
    assert (whole.reason, TOKENS) == (heard.reason, heard.generated)
    assert (whole.prompt, 1) == (heard.prompt, len(heard.ids))
    assert whole.lines[-1].get("context") == heard.lines[-1].get("context")
    attempts = fleet.router.get(f"/admin/explain/{heard.request_id}").json()["attempts"]
    assert len(attempts) == 2, "the stream was cut, and went on"


@pytest.mark.parametrize("said", [1, 2], ids=["merges", "stands alone"])
def test_context_where_nothing_is_left(fleet, said):
    """An answer that is whole at the cut gets the ids that an undisturbed one has."""
    url = fleet.nodes["one"].url
    body = request_of(PATHS[0], MERGING, said)
    whole = listen(url, PATHS[0], body)

    def ask(path: str, body: dict[str, object]) -> dict[str, object]:
        return requests.post(f"{url}{path}", json=body, timeout=60).json()

    original = parse_request(PATHS[0], json.dumps(body).encode())
    seam = prove(original, AnswerSoFar(whole.text, "", said), ask)
    assert (0, said) == (seam.left, seam.sent)
    assert whole.lines[-1]["context"] == seam.context
