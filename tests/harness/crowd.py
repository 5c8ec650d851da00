"""Clients that stream all the time and remember how each request went."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field

import requests


@dataclass(frozen=True)
class Answer:
    """One request: when it began, who answered, and how it ended.

    result: `ok`, `broken` (the stream ended with an error frame) or what failed
    """

    began: float
    node: str
    result: str


@dataclass
class Crowd:
    """Threads that chat with each of `models` in turn until told to stop."""

    url: str
    models: tuple[str, ...]
    tokens: int = 30
    clients: int = 4
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Crowd:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(n,)) for n in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask nothing more, and wait for what is under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def since(self, at: float) -> list[Answer]:
        return [answer for answer in self.answers if answer.began >= at]

    def _run(self, number: int) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                model = self.models[number % len(self.models)]
                self.answers.append(self._ask(session, model))

    def _ask(self, session: requests.Session, model: str) -> Answer:
        began, node = time.monotonic(), ""
        body = {
            "model": model,
            "prompt": "count: 101 102 103",
            "options": {"num_predict": self.tokens, "temperature": 0},
        }
        try:
            with session.post(
                f"{self.url}/api/generate", json=body, stream=True, timeout=60
            ) as answer:
                node = answer.headers.get("X-InferOps-Node", "")
                if answer.status_code != 200:
                    return Answer(began, node, f"{answer.status_code}: {answer.text}")
                lines = [json.loads(line) for line in answer.iter_lines() if line]
        except (OSError, ValueError) as error:
            return Answer(began, node, f"no whole answer: {error!r}")
        return Answer(began, node, _judge(lines))


def _judge(lines: list[dict[str, object]]) -> str:
    """Say whether the text counts on and ends as the protocol says."""
    if not lines or "error" in lines[-1]:
        return "broken" if lines else "empty answer"
    if not lines[-1].get("done"):
        return "ended without its last line"
    numbers = "".join(str(line["response"]) for line in lines).split()
    # The last number may be cut short by num_predict.
    wanted = [str(104 + n) for n in range(len(numbers))]
    return "ok" if numbers[:-1] == wanted[:-1] else f"does not count: {numbers}"
