"""Silence is no death: real Ollama nodes that say nothing for many limits, and live."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.test_counting_proof import inventory
from tests.harness.cases import long_but
from tests.harness.counting import Heard, counted, listen, request_of
from tests.harness.counting_model import Shape, write_counting_model
from tests.harness.ollama import RealOllama, ollama_binary, real_nodes
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH"),
    pytest.mark.timeout(900),
]

MODEL, TOOLS = "counting", "tools"
UNHURRIED = Shape(width=512, layers=4, feed_forward=4096)
STALL_SECONDS = 2.0
SETTINGS = {
    "DISPATCH__STALL_TIMEOUT_SECONDS": str(STALL_SECONDS),
    "DISPATCH__FIRST_BYTE_TIMEOUT_SECONDS": "2",
    "DISPATCH__CONNECT_TIMEOUT_SECONDS": "1",
}
WAIT: dict[str, Any] = {"seconds": 120.0, "every": 0.01}
# A tool call begins with a 9 by this template: Ollama keeps back all that follows.
TEMPLATE = (
    "{{ if .Tools }}{{ end }}{{ range .Messages }}"
    "{{ if .ToolCalls }} 9 {{ range .ToolCalls }}{{ .Function.Name }}{{ end }}{{ end }}"
    "{{ .Content }}{{ end }}"
)
MODELFILE = f'TEMPLATE """{TEMPLATE}"""\nPARAMETER temperature 0\n'
TOOL = {"name": "write", "parameters": {"type": "object", "properties": {}}}
CALL = {
    "model": TOOLS,
    "messages": [{"role": "user", "content": "5 6"}],
    "tools": [{"type": "function", "function": {**TOOL, "description": "writes"}}],
    "options": {"num_predict": 250, "num_thread": 1},
}


class Fleet:
    def __init__(self, nodes: dict[str, RealOllama], router: Router) -> None:
        self.nodes = nodes
        self.router = router

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        self.nodes[name].freeze()
        try:
            yield
        finally:
            self.nodes[name].thaw()

    def well(self) -> None:
        nodes = self.router.nodes
        until(lambda: all(n["schedulable"] for n in nodes().values()), "all are well")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[Fleet]:
    tmp = tmp_path_factory.mktemp("silence")
    gguf = write_counting_model(tmp / "gguf", UNHURRIED)
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(real_nodes(tmp, models={MODEL: UNHURRIED}))
        for node in nodes.values():
            node.create(TOOLS, f"FROM {gguf.resolve()}\n{MODELFILE}")
        router = stack.enter_context(
            Router(
                tmp,
                inventory(tmp, nodes),
                prometheus_port=free_port(),
                settings=SETTINGS,
            )
        )
        yield Fleet(nodes, router)


def test_a_tool_call_that_takes_long_to_write(fleet):
    """Ollama is silent until it is whole, and so is the stream: nothing cuts it."""
    heard = call(fleet)
    longest = max(b - a for a, b in pairwise(heard.times))
    assert longest > 2 * STALL_SECONDS, "the call was silent for longer than a stall"
    assert (None, True, "length") == (heard.error, heard.ended, heard.reason)
    assert heard.generated == 250


def call(fleet: Fleet, heard: Heard | None = None) -> Heard:
    return listen(fleet.router.url, "/api/chat", CALL, heard=heard)


def test_a_node_that_freezes_in_a_tool_call(fleet):
    """It is told from one that writes: it answers nobody. The client hears of it."""
    heard = Heard()
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(call, fleet, heard)
        until(lambda: "8" in heard.text, "the call begins", **WAIT)
        with fleet.frozen(heard.node):
            stream.result(timeout=60)
    assert "sent nothing for too long" in str(heard.error)
    fleet.well()


@pytest.mark.parametrize(
    "path", long_but(["/api/chat", "/api/generate"], {"/api/chat"})
)
def test_nothing_is_cut_where_nowhere_is_better(fleet, path):
    """The only node stands still for many limits, and goes on: so does the stream."""
    heard, body = Heard(), request_of(path, MODEL, 40)
    with ThreadPoolExecutor(1) as pool, fleet.router.cordoned("two"):
        stream = pool.submit(listen, fleet.router.url, path, body, heard=heard)
        until(lambda: len(heard.lines) > 3, "the stream is under way", **WAIT)
        frozen = time.monotonic()
        with fleet.frozen("one"):
            until(lambda: time.monotonic() - frozen > 5 * STALL_SECONDS, "silence")
        stream.result(timeout=120)
    assert (None, counted(40), "one") == (heard.error, heard.numbers, heard.node)
    fleet.well()


@pytest.mark.parametrize(
    "path",
    long_but(["/api/chat", "/v1/chat/completions"], {"/v1/chat/completions"}),
)
def test_a_whole_reply_longer_than_the_first_byte_may_take(fleet, path):
    """Its first byte is its last one: the node is at work, and asked if it is."""
    body = request_of(path, MODEL, 250) | {"stream": False}
    began = time.monotonic()
    answer = fleet.router.post(path, body, timeout=300)
    assert (200, "1") == (answer.status_code, answer.headers["X-InferOps-Attempts"])
    assert time.monotonic() - began > 4.0, "it took many limits"


def test_a_whole_reply_of_a_node_that_freezes(fleet):
    """It is had elsewhere, as soon as the node is known to answer nobody."""
    body = request_of("/api/chat", MODEL, 250) | {"stream": False}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(fleet.router.post, "/api/chat", body, timeout=300)

        def busy() -> str:
            nodes = fleet.router.nodes().items()
            return next((name for name, node in nodes if node["in_flight"]), "")

        with fleet.frozen(until(busy, "a node has it", **WAIT)):
            answer = asked.result(timeout=300)
    assert (200, "2") == (answer.status_code, answer.headers["X-InferOps-Attempts"])
    fleet.well()
