"""A node that slows down under streams is known while they run, over real sockets."""

from __future__ import annotations

import threading

import pytest
import requests

from tests.harness.poll import until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

MODEL = "llama3.2:3b"
KNOWN_SECONDS = 20.0
SPEED = f'inferops_generation_tokens_per_second{{model="{MODEL}",node="fast"}}'


def ask(tokens: int) -> dict[str, object]:
    messages = [{"role": "user", "content": "count on from 7"}]
    return {
        "model": MODEL,
        "messages": messages,
        "options": {"num_predict": tokens},
    }


class Reader(threading.Thread):
    """A client that takes a long stream as it comes, until it is left."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.began, self.left = threading.Event(), threading.Event()
        self._url = url

    def run(self) -> None:
        body = ask(100_000)
        with requests.post(self._url, json=body, stream=True, timeout=60) as answer:
            for _ in answer.iter_lines():
                self.began.set()
                if self.left.is_set():
                    return


def test_slow_down_and_recovery_under_a_stream(router, fleet):
    """Nobody says so, and no reply ends meanwhile."""

    def speed() -> float:
        return router.metric(SPEED) or 0.0

    for _ in range(10):
        answer = router.post("/api/chat", ask(60))
        assert answer.headers["X-InferOps-Node"] == "fast"
    before = speed()
    assert before > 0
    reader = Reader(f"http://127.0.0.1:{router.port}/api/chat")
    reader.start()
    try:
        assert reader.began.wait(10)
        fleet.put("fast", "slow", factor=4.0)
        until(
            lambda: speed() < 1.25 * before / 4,
            "its speed is known",
            seconds=KNOWN_SECONDS,
        )
        fleet.clear("fast", "slow")
        until(
            lambda: speed() > 0.8 * before,
            "its recovery is known",
            seconds=KNOWN_SECONDS,
        )
    finally:
        reader.left.set()
        reader.join()
