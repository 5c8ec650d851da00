"""A router is replaced under load: no stream breaks, no request fails."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from tests.harness.crowd import Crowd
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
SLOTS = {"one": 16, "two": 8, "three": 4}
STREAMS, TOKENS = 50, 600


@pytest.fixture
def fleet(tmp_path) -> Iterator[SimulatedFleet]:
    nodes = [
        Simulated(name, slots=slots, tokens_per_second=60.0)
        for name, slots in SLOTS.items()
    ]
    with SimulatedFleet(tmp_path / "fleet", nodes) as fleet:
        yield fleet


@pytest.fixture
def router(tmp_path, fleet) -> Iterator[Router]:
    with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router:
        yield router


def successor(router: Router, folder) -> Process:
    """Start another router as `python -m router.server.take_over` does."""
    return Process(
        [sys.executable, "-m", "router.server.take_over"],
        log=folder / "successor.log",
        env=router.env,
    )


@contextlib.contextmanager
def watching(fleet: SimulatedFleet) -> Iterator[dict[str, int]]:
    """Look at every node as often as can be; give the most that each was asked."""
    most, over = dict.fromkeys(SLOTS, 0), threading.Event()

    def look() -> None:
        while not over.is_set():
            for node in fleet.states():
                asked = node["running"] + node["waiting"]
                most[node["name"]] = max(most[node["name"]], asked)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield most
    finally:
        over.set()
        looking.join()


def stream(router: Router, answers: list[tuple[int, int, bool]]) -> None:
    """Ask for a long answer; keep status, tokens, and whether it ended well."""
    body = {"model": MODEL, "prompt": "count: 1 2 3"}
    body |= {"options": {"num_predict": TOKENS, "temperature": 0}}
    url = f"{router.url}/api/generate"
    with requests.post(url, json=body, stream=True, timeout=120) as answer:
        lines = list(answer.iter_lines())
    ended = b'"done":true' in lines[-1] and b"error" not in lines[-1]
    answers.append((answer.status_code, len(lines), ended))


@pytest.mark.long
def test_fifty_streams_go_on(tmp_path, fleet, router):
    """Some of them wait for a slot while one router hands over to the other."""
    answers: list[tuple[int, int, bool]] = []
    threads = [
        threading.Thread(target=stream, args=(router, answers)) for _ in range(STREAMS)
    ]
    with watching(fleet) as most, Crowd(router.url, (MODEL,), clients=4) as crowd:
        for each in threads:
            each.start()
        until(
            lambda: sum(n["in_flight"] for n in router.nodes().values()) >= 28,
            "every slot is taken",
        )
        after = successor(router, tmp_path)
        try:
            until(
                lambda: "taken_over" in after.log.read_text(),
                "the second router has taken over",
                seconds=60,
            )
            began, under_way = time.monotonic(), STREAMS - len(answers)
            for each in threads:
                each.join()
            until(lambda: len(crowd.since(began)) >= 8, "new requests are served")
            until(lambda: not router.process.running, "the first has ended", seconds=60)
            assert after.running
            assert requests.get(f"{router.url}/readyz", timeout=5).ok
            crowd.stop()
        finally:
            after.kill()
    print(f"under way at the handover: {under_way}, most: {most}")
    assert len(answers) == STREAMS
    assert {each for each in answers if each[0] != 200 or not each[2]} == set()
    assert {lines for _, lines, _ in answers} == {TOKENS + 1}
    assert {a.result for a in crowd.answers} == {"ok"}
    assert {n: most for n, most in most.items() if most > SLOTS[n]} == {}
    assert under_way > 0
