"""Clients of a troubled fleet: they ask, and look whether the answer is right."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import requests

from bench.troubles import TOKENS, Trouble, poison

_ANSWER_SECONDS, _TOOLS_SECONDS = 60.0, 400.0


@dataclass(slots=True)
class ClientAnswer:
    """One request as its client saw it."""

    began: float
    ended: float
    why: str  # it failed; empty where it did not
    tokens: int = 0


@dataclass(slots=True)
class Clients:
    """Ask one after the other, each as soon as it has its answer."""

    url: str
    trouble: Trouble
    answers: list[ClientAnswer] = field(default_factory=list)
    poisoned: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        count = self.trouble.clients
        self._threads = [
            threading.Thread(target=self._run, args=(number, count))
            for number in range(count)
        ]
        for each in self._threads:
            each.start()

    def _run(self, number: int, step: int) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                self.answers.append(ask(session, self.url, self.trouble.body(number)))
                number += step + 1  # each asks for streams and for whole replies
                if self.trouble.once:
                    return
                if self.answers[-1].why:
                    self._stop.wait(0.1)

    def poison(self, seconds: float) -> None:
        """Send the request that ends runners, as a client that tries again does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(requests.RequestException):
                requests.post(self.url, json=poison(), timeout=_ANSWER_SECONDS)
            self.poisoned += 1
            self._stop.wait(1.0)

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for each in self._threads:
            each.join(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()


def ask(session: requests.Session, url: str, body: dict[str, Any]) -> ClientAnswer:
    """Ask once; an answer is good where it is whole and counts on."""
    began = time.monotonic()
    text, last, why = "", {}, ""
    limit = _TOOLS_SECONDS if "tools" in body else _ANSWER_SECONDS
    try:
        with session.post(url, json=body, stream=True, timeout=limit) as answer:
            if answer.status_code != 200:
                why = f"{answer.status_code}"
            for line in answer.iter_lines(chunk_size=None):
                if time.monotonic() - began > limit:
                    raise TimeoutError
                if line and not why:
                    last = json.loads(line)
                    text += last.get("message", {}).get("content", "")
    except (OSError, ValueError, AttributeError) as error:
        why = why or type(error).__name__
    if not why and not last.get("done"):
        why = "error in the stream" if "error" in last else "no end"
    if not why and "tools" not in body:
        numbers = [int(each) for each in text.split() if each.isdigit()]
        if numbers != list(range(104, 104 + TOKENS)):
            why = "gap or repeat"
    return ClientAnswer(began, time.monotonic(), why, 0 if why else TOKENS)
