"""Two models on two real nodes that hold one each: they do not push each other out."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from tests.harness.counting_model import Shape
from tests.harness.inventory import write_inventory
from tests.harness.ollama import ollama_binary, real_nodes
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

MODELS = {"one": Shape(), "two": Shape(layers=2)}
PEOPLE = 3  # for each model
SECONDS = 12.0
LOAD_SECONDS = 0.25  # a resident model is looked up in less


@pytest.fixture
def nodes(tmp_path):
    if ollama_binary() is None:
        pytest.skip("no ollama on PATH")
    limits = {"OLLAMA_MAX_LOADED_MODELS": "1"}
    names = ("left", "right")
    with real_nodes(tmp_path, names, models=MODELS, settings=limits) as made:
        yield made


@pytest.fixture
def router(nodes, tmp_path):
    urls = {name: node.url for name, node in nodes.items()}
    inventory = write_inventory(tmp_path / "nodes.yml", urls, slots=1)
    with Router(tmp_path, inventory, prometheus_port=free_port()) as made:
        yield made.wait_ready()


class People:
    """Some who ask for each model again and again."""

    def __init__(self, router: Router, options: dict[str, dict[str, int]]) -> None:
        self.replies: list[tuple[str, str, float]] = []  # who, node, seconds of a load
        self.failed: list[str] = []
        self._router = router
        threads = [
            threading.Thread(target=self._ask, args=(who, more))
            for who, more in options.items()
            for _ in range(PEOPLE)
        ]
        self._until = time.monotonic() + SECONDS
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _ask(self, who: str, more: dict[str, int]) -> None:
        body = {
            "model": who.partition(" ")[0],
            "messages": [{"role": "user", "content": "count on from 7"}],
            "options": {"num_predict": 40, **more},
            "stream": False,
        }
        while time.monotonic() < self._until:
            answer = self._router.post("/api/chat", body, timeout=60)
            if not answer.ok:
                self.failed.append(answer.text)
                return
            load = answer.json().get("load_duration", 0) / 1e9
            node = answer.headers["X-InferOps-Node"]
            self.replies.append((who, node, load))

    @property
    def loads(self) -> int:
        return sum(load > LOAD_SECONDS for _, _, load in self.replies)

    def places(self, who: str) -> Counter[str]:
        return Counter(node for each, node, _ in self.replies if each == who)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"one": {}, "two": {}}, id="two models"),
        pytest.param(
            {"one": {}, "one long": {"num_ctx": 3072}},
            id="one model, two context lengths",
            marks=pytest.mark.long,
        ),
    ],
)
def test_each_keeps_its_node(router, options):
    """After the first loads there are no more, and both models are served alike."""
    people = People(router, options)
    assert not people.failed
    assert people.loads <= 2 * len(options)
    shares = [len(people.places(who)) and people.places(who) for who in options]
    for share in shares:
        assert share
        assert max(share.values()) > 0.8 * sum(share.values())
