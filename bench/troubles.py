"""The troubles of `bench.trouble`: what goes wrong, and who asks for what meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.troubled_node import RUNNER_DIED, Played, TroubledNode

Nodes = Sequence[TroubledNode]
TOKENS = 40
PLAIN, OTHER = "counting:latest", "other:latest"
MIXED, TOOLS = "mixed:latest", "tools:latest"
POISON = "poison"
_START = "count on: 101 102 103"
_TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {}},
    },
}
_LOGIN = b"<!DOCTYPE html><html><title>Sign in</title></html>"
_BIG_BYTES = 12_000_000


def chat(number: int, model: str = PLAIN, **more: object) -> dict[str, Any]:
    """Return a client's request: every other one for a stream."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": _START}],
        "stream": number % 2 == 0,
        "options": {"num_predict": TOKENS, "temperature": 0},
        **more,
    }


def two_models(number: int) -> dict[str, Any]:
    return chat(number // 2, (PLAIN, OTHER)[number % 2])


def poison() -> dict[str, Any]:
    return chat(1, system=POISON)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to the first node, or to all.

    begin:   what goes wrong; `TroubledNode.well` ends it
    before:  seconds for which the proxy serves a fleet that is well
    seconds: how long it is in trouble
    returns: whether the node can be well again
    once:    whether each client asks once only
    one_model: whether nodes hold one model at a time
    poisoned: whether another client sends a request that ends runners, once a second
    """

    name: str
    begin: Callable[[Nodes], object]
    body: Callable[[int], dict[str, Any]] = chat
    seconds: float = 10.0
    clients: int = 8
    before: float = 2.0
    returns: bool = True
    once: bool = False
    one_model: bool = False
    poisoned: bool = False


def _plays(played: Played) -> Callable[[Nodes], None]:
    def begin(nodes: Nodes) -> None:
        nodes[0].play = lambda _: played

    return begin


def _half(nodes: Nodes) -> None:
    turns = itertools.count()
    error = Played.error(500, "CUDA error: unspecified launch failure")
    nodes[0].play = lambda _: error if next(turns) % 2 else None


def _one_model(nodes: Nodes) -> None:
    error = Played.error(
        500, "model requires more system memory (9.0 GiB) than is available (2.0 GiB)"
    )
    nodes[0].play = lambda fields: error if fields["model"] == OTHER else None


def _all(**changes: object) -> Callable[[Nodes], None]:
    def begin(nodes: Nodes) -> None:
        for node in nodes:
            for name, value in changes.items():
                setattr(node, name, value)

    return begin


def _first(**changes: object) -> Callable[[Nodes], None]:
    return lambda nodes: _all(**changes)(nodes[:1])


class _Flapping:
    """Shuts a node for a second of every three; ends with the trouble."""

    def __init__(self, nodes: Nodes) -> None:
        self._over = threading.Event()
        self._node = nodes[0]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            self._node.shut = True
            self._over.wait(1.0)
            self._node.shut = False
            self._over.wait(2.0)

    def __call__(self) -> None:
        self._over.set()
        self._thread.join()


def _crashing(nodes: Nodes) -> None:
    for node in nodes:

        def play(fields: dict[str, Any], node: TroubledNode = node) -> Played | None:
            if fields.get("system") != POISON:
                return None
            node.crashes += 1
            return Played.error(500, RUNNER_DIED)

        node.play = play


def _nothing(_: Nodes) -> None:
    """The trouble is there from the start."""


_FAILS = Played.error(
    500,
    "llama runner process has terminated: CUDA error: unspecified launch failure",
)

TROUBLES: tuple[Trouble, ...] = (
    Trouble("fails fast", _plays(_FAILS)),
    Trouble(
        "fails slow (3 s)",
        _plays(Played(_FAILS.status, _FAILS.body, seconds=3.0)),
    ),
    Trouble("half of its answers fail", _half),
    Trouble("one model of two fails", _one_model, two_models),
    Trouble("nonsense (a login page)", _plays(Played(200, _LOGIN, "text/html"))),
    Trouble("4 times slower", _first(slower=4.0), seconds=20.0),
    Trouble("sleeps", _first(asleep=True)),
    Trouble("flaps (down 1 s of 3)", _Flapping, seconds=15.0),
    Trouble(
        "wrong build",
        _nothing,
        lambda number: chat(number, MIXED, tools=[_TOOL]),
        before=0.0,
        returns=False,
    ),
    Trouble("crashing request", _crashing, returns=False, poisoned=True),
    Trouble(
        "two models",
        _nothing,
        two_models,
        seconds=20.0,
        before=0.0,
        returns=False,
        one_model=True,
    ),
    Trouble(
        "tool silence (130 s)",
        _all(silence=130.0),
        lambda number: chat(number, TOOLS, tools=[_TOOL]),
        seconds=200.0,
        clients=4,
        before=0.0,
        returns=False,
        once=True,
    ),
    Trouble(
        "big bodies (12 MB at 4 MB/s)",
        _all(bytes_per_second=4e6),
        lambda number: chat(number, padding="A" * _BIG_BYTES),
        seconds=15.0,
        clients=3,
        before=0.0,
        returns=False,
    ),
)
