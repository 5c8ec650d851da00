"""What others do, in virtual time: a node is chosen when the request comes.

The request waits in the node's own queue, as it does behind nginx, olla or LiteLLM.
Speeds that a policy weighs by are the true ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from simulator.virtual.clock import Clock
from simulator.virtual.node import TOTALS, Scaling, Spec
from simulator.virtual.ollama import Request, VirtualOllama
from simulator.virtual.routed import Reply
from simulator.virtual.workload import Ask

_SCRAPE_SECONDS = 15.0


@dataclass(slots=True)
class View:
    """What a policy sees: true counts, and those of the last scrape."""

    specs: Sequence[Spec]
    rng: random.Random
    in_flight: list[int]
    scraped: list[int]
    turns: count[int] = field(default_factory=count)


Peer = Callable[[View, Ask], int]


def round_robin(view: View, _: Ask) -> int:
    return next(view.turns) % len(view.specs)


def at_random(view: View, _: Ask) -> int:
    return view.rng.randrange(len(view.specs))


def power_of_two(view: View, _: Ask) -> int:
    some = view.rng.sample(range(len(view.specs)), 2)
    return min(some, key=lambda i: view.in_flight[i])


def least_connections(view: View, _: Ask) -> int:
    fewest = min(view.in_flight)
    return view.rng.choice([i for i, n in enumerate(view.in_flight) if n == fewest])


def weighted_least_connections(view: View, _: Ask) -> int:
    load = [
        (n + 1) / spec.speed for n, spec in zip(view.in_flight, view.specs, strict=True)
    ]
    return min(range(len(load)), key=load.__getitem__)


def session(view: View, ask: Ask) -> int:
    return hash(ask.session) % len(view.specs)


def score(view: View, _: Ask) -> int:
    """Take the best weighted score of the last scrape: speed and utilisation."""
    fastest = max(spec.speed for spec in view.specs)
    scores = [
        spec.speed / fastest + (1 - min(1.0, n / spec.slots))
        for n, spec in zip(view.scraped, view.specs, strict=True)
    ]
    best = max(scores)
    return view.rng.choice([i for i, s in enumerate(scores) if s == best])


PEERS: Mapping[str, Peer] = {
    "round robin": round_robin,
    "random": at_random,
    "power of two": power_of_two,
    "least connections": least_connections,
    "weighted least connections": weighted_least_connections,
    "session": session,
    "score only": score,
}


def run_peer(
    name: str, specs: Sequence[Spec], scaling: Scaling, asks: Sequence[Ask], seed: int
) -> list[Reply]:
    """Run the requests to their ends; every model is resident everywhere."""
    clock, choose = Clock(), PEERS[name]
    models = sorted({ask.model for ask in asks})
    nodes = [VirtualOllama(s, TOTALS[scaling], clock, models) for s in specs]
    zeros = [0] * len(specs)
    view = View(specs, random.Random(seed), list(zeros), list(zeros))
    replies = [Reply(ask) for ask in asks]

    def scrape() -> None:
        view.scraped = list(view.in_flight)
        if clock.now < asks[-1].at:
            clock.at(clock.now + _SCRAPE_SECONDS, scrape)

    def send(reply: Reply) -> None:
        ask, chosen = reply.ask, choose(view, reply.ask)

        def first(_: Request) -> None:
            reply.first_at = clock.now

        def ended(_: Request) -> None:
            reply.ended_at = clock.now
            view.in_flight[chosen] -= 1

        view.in_flight[chosen] += 1
        reply.node = specs[chosen].name
        nodes[chosen].submit(Request(ask.model, ask.prompt, ask.tokens, ended, first))

    scrape()
    for reply in replies:
        clock.at(reply.ask.at, lambda reply=reply: send(reply))  # type: ignore[misc]
    clock.run()
    return replies
