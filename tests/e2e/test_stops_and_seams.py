"""A stop string at a seam where tokens are drawn: the last piece is asked for again.

A played node whose runner dies at first, and which then says what the test tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.harness.counting import Heard, listen, request_of
from tests.harness.inventory import write_inventory
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.recording_node import RecordingNode, Sent
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

PATH = "/api/generate"
DIED = "an error was encountered while running the model: unexpected EOF"


def line(text: str, **more: object) -> bytes:
    fields = {"model": "m", "created_at": "t", "response": text, "done": False}
    return json.dumps({**fields, **more}).encode() + b"\n"


def stream(*texts: str) -> list[bytes]:
    """A whole answer, that a stop string ended."""
    count = {"prompt_eval_count": 4, "eval_count": len(texts)}
    last = line("", done=True, done_reason="stop", **count)
    return [b"".join(map(line, texts)) + last]


def dies_after(heard: Heard, *texts: str) -> Iterator[bytes]:
    """An answer whose runner dies once the client has these pieces."""
    yield b"".join(map(line, texts))
    until(lambda: heard.text == "".join(texts), "the client has it")
    yield json.dumps({"error": DIED}).encode() + b"\n"


class DrawnAnswers:
    """What a node's streams say, one after the other; the rest is as it should be."""

    def __init__(self, streams: Iterable[Iterable[bytes]]) -> None:
        self._streams = iter(streams)
        self.seeds: list[int] = []

    def __call__(self, sent: Sent) -> tuple[Iterable[bytes], str]:
        body: dict[str, Any] = json.loads(sent.body)
        if sent.path == "/api/show":
            return told({"modelfile": "", "parameters": ""})
        if body.get("_debug_render_only"):
            return told({"_debug_info": {"rendered_template": body["prompt"]}})
        if body.get("stream") is False:
            count = len(body["prompt"].split()) - 1
            return told({"prompt_eval_count": count, "response": "x"})
        self.seeds.append(body["options"]["seed"])
        return next(self._streams), "application/x-ndjson"


def told(fields: dict[str, object]) -> tuple[Iterable[bytes], str]:
    return [json.dumps(fields).encode()], JSON


JSON = "application/json; charset=utf-8"


@pytest.fixture(scope="module")
def node() -> Iterator[RecordingNode]:
    with RecordingNode("drawn:latest") as node:
        yield node


@pytest.fixture(scope="module")
def router(tmp_path_factory, node) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("drawn")
    urls = {"drawn": node.url}
    inventory = write_inventory(folder / "nodes.yml", urls, slots=None)
    with Router(folder, inventory, prometheus_port=free_port()) as router:
        yield router


def ask(router: Router, heard: Heard) -> Heard:
    options = {"temperature": 1.0, "seed": 7, "stop": ["05 1"]}
    body = request_of(PATH, "drawn", None, options=options)
    return listen(router.url, PATH, body, heard=heard)


def test_piece_is_drawn_until_it_comes_again(router, node):
    """Two tries say something else, which nobody hears; the third is the client's."""
    heard = Heard()
    node.answer = answers = DrawnAnswers(
        [
            dies_after(heard, " 104", " x"),
            stream(" y"),
            stream(" z", " 105"),
            stream(" x", " 105"),
        ]
    )
    ask(router, heard)
    assert (None, True, " 104 x 105") == (heard.error, heard.ended, heard.text)
    assert ("stop", 3) == (heard.reason, heard.generated)
    assert answers.seeds == [7, 7, 8, 9], "a seed draws the same each time"


def test_piece_that_does_not_come_again(router, node):
    """What cannot be proven ends with an error; no text goes past where it stopped."""
    heard = Heard()
    others = [stream(" y") for _ in range(40)]
    node.answer = DrawnAnswers([dies_after(heard, " 104", " x"), *others])
    ask(router, heard)
    assert heard.text == " 104 x"
    assert heard.error is not None
    assert "a stop string may have ended the text" in heard.error
    assert router.nodes()["drawn"]["in_flight"] == 0
