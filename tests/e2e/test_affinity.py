"""A chat goes on where it was read: real nodes, which keep what they have read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.harness.counting_model import Shape
from tests.harness.inventory import write_inventory
from tests.harness.ollama import ollama_binary, real_nodes
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

SLOW_TO_READ = {"m": Shape(width=256, feed_forward=4096)}
LETTERS = 500  # as many tokens
OTHER = {"left": "right", "right": "left"}


@pytest.fixture
def nodes(tmp_path):
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH")
    with real_nodes(tmp_path, ("left", "right"), models=SLOW_TO_READ) as made:
        yield made


@pytest.fixture
def router(nodes, tmp_path):
    urls = {name: node.url for name, node in nodes.items()}
    inventory = write_inventory(tmp_path / "nodes.yml", urls, slots=1)
    with Router(tmp_path, inventory, prometheus_port=free_port()) as made:
        yield made.wait_ready()


class Chat:
    """One conversation through the router."""

    def __init__(self, router: Router, name: str) -> None:
        self._router = router
        text = f"{name}: " * (LETTERS // (len(name) + 2))
        self.messages = [{"role": "user", "content": text + " 7"}]

    def turn(self) -> tuple[str, float, dict[str, Any]]:
        """Return the node, how long it read, and why it was taken."""
        options = {"num_predict": 8}
        body = {"model": "m", "messages": self.messages, "options": options}
        reply = self._router.post("/api/chat", body | {"stream": False})
        said = reply.json()
        self.messages += [said["message"], {"role": "user", "content": " and 20"}]
        request = reply.headers["X-Request-Id"]
        shown = self._router.get(f"/admin/explain/{request}").json()["attempts"][0]
        node = reply.headers["X-InferOps-Node"]
        candidates = {each["node"]: each for each in shown["candidates"]}
        return node, said["prompt_eval_duration"] / 1e9, candidates[node]


def test_a_chat_goes_on_where_it_was_read(router):
    """The next turn of each goes to its node and reads little; a full node is left."""
    chats, first = {}, {}
    for name in ("left", "right"):
        chats[name] = Chat(router, name)
        with router.cordoned(OTHER[name]):
            node, first[name], _ = chats[name].turn()
        assert name == node
    for name, chat in chats.items():
        node, seconds, candidate = chat.turn()
        assert name == node
        assert seconds < 0.5 * first[name]
        assert candidate["saved_seconds"] > candidate["expected"]["prefill"]

    text = {"role": "user", "content": "count on: 7"}
    body = {"model": "m", "messages": [text], "options": {"num_predict": 1500}}
    with router.cordoned("left"):
        stream = requests.post(f"{router.url}/api/chat", json=body, stream=True)
        lines = stream.iter_lines()
        assert json.loads(next(lines))["message"]
    with stream:
        node, _, candidate = chats["right"].turn()
        assert router.nodes()["right"]["in_flight"] == 1
    assert (node, candidate["saved_seconds"]) == ("left", 0)
