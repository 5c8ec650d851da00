"""Two clients over HTTP: one floods, and the other hardly hears of it."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

WAITING = 24
FLOOD = 40  # the polite one has one under way
BODY = json.dumps(
    {
        "model": "llama3.2:3b",
        "messages": [{"role": "user", "content": "count on from 7"}],
        "options": {"num_predict": 30},
        "stream": False,
    }
)


@pytest.fixture
def router(tmp_path, fleet):
    with Router(
        tmp_path,
        fleet.inventory,
        prometheus_port=free_port(),
        settings={"DISPATCH__MAX_WAITING": str(WAITING)},
    ) as made:
        yield made


def ask(router, address: str) -> tuple[int, float, dict]:
    """Send a request from an address of this machine."""
    began = time.monotonic()
    client = http.client.HTTPConnection(
        "127.0.0.1", router.port, timeout=60, source_address=(address, 0)
    )
    try:
        client.request("POST", "/api/chat", BODY)
        answer = client.getresponse()
        found = json.loads(answer.read())
        found["retry_after"] = answer.headers.get("Retry-After")
        return answer.status, time.monotonic() - began, found
    finally:
        client.close()


def test_flood(router, fleet):
    """Who floods waits and is refused in the route's words; the other is served."""
    fleet.put("fast", "slow", factor=4.0)
    over = False

    def flood(_: int) -> list[tuple[int, float, dict]]:
        answers = []
        while not over:
            answers.append(ask(router, "127.0.0.1"))
        return answers

    with ThreadPoolExecutor(FLOOD) as threads:
        floods = threads.map(flood, range(FLOOD))
        waiting = 'inferops_queue_length{priority="interactive"}'
        until(lambda: (router.metric(waiting) or 0) >= WAITING - 1, "the queue is full")
        polite = [ask(router, "127.0.0.2") for _ in range(6)]
        over = True
        flooded = [each for answers in floods for each in answers]
    assert {status for status, _, _ in polite} == {200}
    refused = [found for status, _, found in flooded if status == 429]
    assert refused
    assert refused[0]["retry_after"] == "5"
    assert f"the queue is full: {WAITING} requests wait" in refused[0]["error"]
    assert "from the same client" in refused[0]["error"]
    served = [seconds for status, seconds, _ in flooded if status == 200]
    assert served
    mine = statistics.median(seconds for _, seconds, _ in polite)
    assert mine < 0.6 * statistics.median(served)
