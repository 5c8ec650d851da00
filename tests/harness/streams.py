"""Long streams and short requests across a change of routers: none may suffer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.harness.crowd import Crowd
from tests.harness.poll import until

MODEL = "llama3.2:3b"
STREAMS, TOKENS = 50, 600

States = Callable[[], list[dict[str, Any]]]


@contextlib.contextmanager
def watching(states: States) -> Iterator[dict[str, int]]:
    """Look at every node as often as can be; give the most that each was asked."""
    most: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for node in states():
                asked = node["running"] + node["waiting"]
                most[node["name"]] = max(most.get(node["name"], 0), asked)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield most
    finally:
        over.set()
        looking.join()


@dataclass
class Streams:
    """Clients that ask for long answers, again and again until `stop` is called."""

    url: str
    count: int = STREAMS
    tokens: int = TOKENS
    began: int = 0
    answers: list[tuple[int, int, bool]] = field(default_factory=list)

    def __enter__(self) -> Streams:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.count)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def under_way(self) -> int:
        return self.began - len(self.answers)

    def stop(self) -> None:
        """Begin no more, and wait until those under way have ended."""
        self._over.set()
        for each in self._threads:
            each.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self.began += 1
            self.answers.append(self._ask())

    def _ask(self) -> tuple[int, int, bool]:
        """Give status, lines, and whether the answer ended well."""
        options = {"num_predict": self.tokens, "temperature": 0}
        body = {"model": MODEL, "prompt": "count: 1 2 3", "options": options}
        url = f"{self.url}/api/generate"
        try:
            with requests.post(url, json=body, stream=True, timeout=180) as answer:
                lines = list(answer.iter_lines())
        except requests.RequestException:
            return 0, 0, False
        ended = bool(lines) and b'"done":true' in lines[-1]
        return answer.status_code, len(lines), ended and b"error" not in lines[-1]


def outlive(
    url: str, states: States, slots: Mapping[str, int], change: Callable[[], object]
) -> str:
    """Have the router replaced under 50 streams and 4 clients; say what there was.

    change: returns once another router has taken over
    Asserts that nothing failed, nothing was cut, and no node was over its slots.
    """
    with (
        watching(states) as most,
        Streams(url) as streams,
        Crowd(url, (MODEL,), clients=4) as crowd,
    ):
        until(
            lambda: sum(node["running"] for node in states()) >= sum(slots.values()),
            "every slot is taken",
            seconds=60,
        )
        change()
        changed, under_way = time.monotonic(), streams.under_way
        streams.stop()
        until(lambda: len(crowd.since(changed)) >= 8, "new requests are served")
        crowd.stop()
    assert {a for a in streams.answers if a != (200, streams.tokens + 1, True)} == set()
    assert {answer.result for answer in crowd.answers} == {"ok"}
    assert {n: count for n, count in most.items() if count > slots[n]} == {}
    assert under_way > sum(slots.values())  # some waited too
    return (
        f"{under_way} streams under way at the change, {len(streams.answers)} in all,"
        f" {len(crowd.answers)} requests beside them; most at once: {most}"
    )
