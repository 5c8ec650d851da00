"""Streams when the router's own container is recreated: docs/upgrade.md."""

from __future__ import annotations

import json
import threading
import time

import pytest
import requests

from tests.compose.real.stack import MODEL, Stack, own_nodes
from tests.harness.poll import until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]

GRACE_SECONDS = 25  # shutdown.grace_seconds
LONGER_SECONDS = 45  # above the shipped stop_grace_period
LONGER = f"""
  router:
    stop_grace_period: {LONGER_SECONDS + 15}s
"""
SPEED = 60  # tokens per second of a node of `own_nodes`
SHORT, ENDLESS = 15 * SPEED, 600 * SPEED


class Answer(threading.Thread):
    """A streamed answer of `tokens` tokens; when it ended, and with which line."""

    def __init__(self, stack: Stack, tokens: int) -> None:
        super().__init__(daemon=True)
        self.url = stack.url("router", "/api/generate")
        self.options = {"num_predict": tokens}
        self.lines = 0
        self.last: dict = {}
        self.ended = 0.0

    def run(self) -> None:
        body = {"model": MODEL, "prompt": "count", "options": self.options}
        with requests.post(self.url, json=body, stream=True, timeout=120) as answer:
            for line in answer.iter_lines():
                self.lines += 1
                self.last = json.loads(line)
        self.ended = time.monotonic()


@pytest.mark.parametrize("seconds", [GRACE_SECONDS, LONGER_SECONDS])
def test_streams_have_their_seconds(stack, seconds) -> None:
    """A stream that ends within the grace is whole, another gets the error frame.

    No stream breaks without a word, and the new container serves at once.
    """
    own_nodes(stack, {"one": 4})
    if seconds != GRACE_SECONDS:
        stack.clone.write("site/router.yml", f"shutdown: {{grace_seconds: {seconds}}}")
        override = stack.clone.folder / "docker-compose.override.yml"
        override.write_text(override.read_text() + LONGER)
    stack.up()
    stack.healthy()
    until(lambda: stack.generate().ok, "it answers", seconds=60, every=0.5)
    before = stack.ids()["router"]
    short, endless = Answer(stack, SHORT), Answer(stack, ENDLESS)
    for each in (short, endless):
        each.start()
    until(lambda: short.lines and endless.lines, "both are under way")

    stack.environment["INFEROPS_HOSTS"] = "ai.lan"  # a variable of the router
    began = time.monotonic()
    stack.up()
    took = time.monotonic() - began
    until(lambda: stack.generate().ok, "it answers again", seconds=60, every=0.5)
    away = time.monotonic() - began

    for each in (short, endless):
        each.join(10)
    print(f"up: {took:.1f} s, until an answer: {away:.1f} s")
    print(f"short: {short.ended - began:.1f} s, endless: {endless.ended - began:.1f} s")
    print(endless.last)
    assert before != stack.ids()["router"]
    assert (SHORT + 1, True) == (short.lines, short.last["done"])
    assert "error" not in short.last
    assert "error" in endless.last
    assert seconds < endless.ended - began < seconds + 15
