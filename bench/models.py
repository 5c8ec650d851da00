"""Several models over nodes that hold two each: what is good, and how often one loads.

The router's own code in virtual time (`simulator/virtual/routed.py`) beside two simple
policies: least connections that does not know models, and one that takes the least busy
of the nodes that hold the model. Requests name models by Zipf's law.

    python -m bench.models --traffic azure.csv --loads 0.5 0.7
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from bench.figures import table
from bench.virtual.workload import MIXED_8
from simulator.virtual.clock import Clock
from simulator.virtual.figures import Figures
from simulator.virtual.node import TOTALS, Scaling, Spec
from simulator.virtual.ollama import Request, VirtualOllama
from simulator.virtual.routed import Reply, Routed, Setup
from simulator.virtual.traffic import Traffic
from simulator.virtual.workload import Ask

MODELS = tuple(f"model-{number}:latest" for number in range(5))
OURS, LOADED, BLIND = "router", "loaded first", "least connections"
_WARM_UP = 0.2  # of the requests
_HEAD = ["policy", "load", "good", "p99 s", "first p99 s", "loads a minute", "failed"]


def zipf(asks: Sequence[Ask], seed: int) -> list[Ask]:
    """Give each request a model: the second is asked for half as often as the first."""
    weights = [1 / (place + 1) for place in range(len(MODELS))]
    drawn = random.Random(seed).choices(MODELS, weights, k=len(asks))
    return [replace(ask, model=model) for ask, model in zip(asks, drawn, strict=True)]


def resident(number: int) -> Sequence[str]:
    """Return what a node holds at first: two models, spread evenly."""
    return tuple(MODELS[(number + more) % len(MODELS)] for more in range(2))


@dataclass(frozen=True, slots=True)
class Result:
    """One run: what requests felt, and loads over all nodes."""

    figures: Figures
    loads_per_minute: float


def _result(
    replies: Sequence[Reply], nodes: Sequence[VirtualOllama], asks: Sequence[Ask]
) -> Result:
    since = asks[int(_WARM_UP * len(asks))].at
    counted = [each for each in replies if each.ask.at >= since]
    loads = sum(node.loads for node in nodes)
    return Result(Figures.of(counted), loads / (asks[-1].at / 60))


def routed(specs: Sequence[Spec], scaling: Scaling, asks: Sequence[Ask]) -> Result:
    """Run the router."""
    setup = Setup(specs, scaling, models=MODELS, resident=resident)
    router = Routed(setup, Clock())
    return _result(router.run(asks), list(router.nodes.values()), asks)


class Simple:
    """Least connections; `aware`: of the nodes that hold the model, if any do."""

    def __init__(self, specs: Sequence[Spec], scaling: Scaling, *, aware: bool) -> None:
        self._clock, self._aware = Clock(), aware
        self._nodes = [
            VirtualOllama(spec, TOTALS[scaling], self._clock, resident(number))
            for number, spec in enumerate(specs)
        ]
        self._in_flight = [0] * len(specs)

    def run(self, asks: Sequence[Ask]) -> Result:
        replies = [Reply(ask) for ask in asks]
        for reply in replies:
            self._clock.at(reply.ask.at, partial(self._send, reply))
        self._clock.run()
        return _result(replies, self._nodes, asks)

    def _send(self, reply: Reply) -> None:
        ask, place = reply.ask, self._pick(reply.ask.model)
        self._in_flight[place] += 1

        def first(_: Request) -> None:
            reply.first_at = self._clock.now

        def ended(_: Request) -> None:
            reply.ended_at = self._clock.now
            self._in_flight[place] -= 1

        request = Request(ask.model, ask.prompt, ask.tokens, ended, first)
        self._nodes[place].submit(request)

    def _pick(self, model: str) -> int:
        places: Sequence[int] = range(len(self._nodes))
        if self._aware:
            holding = [at for at in places if model in self._nodes[at].resident]
            places = holding or places
        return min(places, key=self._in_flight.__getitem__)


def run(policy: str, scaling: Scaling, asks: Sequence[Ask]) -> Result:
    if policy == OURS:
        return routed(MIXED_8, scaling, asks)
    return Simple(MIXED_8, scaling, aware=policy == LOADED).run(asks)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--traffic", default="chat", help="a trace (CSV), or a shape")
    parser.add_argument("--loads", nargs="+", type=float, default=[0.5, 0.7])
    parser.add_argument("--scaling", type=Scaling, default=Scaling.KERNEL)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    args = parser.parse_args(argv)
    traffic = Traffic.of(args.traffic)
    most = traffic.saturation(MIXED_8, args.scaling)
    rows = []
    for load, policy in product(args.loads, (OURS, LOADED, BLIND)):
        results = []
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            asks = zipf(traffic.draw(load * most, args.requests, seed), seed)
            results.append(run(policy, args.scaling, asks))
        rows.append([policy, f"{load:g}", *_shown(results)])
    print(f"{args.scaling}, mixed-8 of two models each, five models, virtual time")
    print("\n".join(table(_HEAD, rows)))


def _shown(results: Sequence[Result]) -> list[str]:
    """Show the median and the range over seeds."""
    return [
        _spread([each.figures.good for each in results], 3),
        _spread([each.figures.p99 for each in results], 1),
        _spread([each.figures.first_p99 for each in results], 2),
        _spread([each.loads_per_minute for each in results], 2),
        _spread([each.figures.failed for each in results], 3),
    ]


def _spread(values: Sequence[float], digits: int) -> str:
    low, high = min(values), max(values)
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
