"""What it is worth to know which node has read how a prompt begins.

Conversations in virtual time, on nodes that keep prompts as Ollama does
(`simulator/virtual/node.py`): the router's own code, with the digests of prompts and
without them. Everything is learned in the run; its first part is not counted.

    python -m bench.affinity --loads 0.7 --first-seed 201
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

from bench.figures import table
from bench.scheduling import FLEETS, compare, saturation_of, traffic_of
from simulator.virtual.clock import Clock
from simulator.virtual.figures import Figures
from simulator.virtual.node import Caching, Scaling
from simulator.virtual.routed import Routed, Setup
from simulator.virtual.traffic import CONVERSATIONS

_WARM_UP = 0.2  # of the requests
_LESS_IS_BETTER = {"first_p50": "first p50", "first_p99": "first p99", "p50": "p50"}
_LESS_IS_BETTER |= {"p95": "p95", "p99": "p99"}


@dataclass(frozen=True, slots=True)
class Conversing:
    """One run; a load is a share of what the fleet does where nothing is cached."""

    traffic: str
    fleet: str
    scaling: Scaling
    load: float
    caching: Caching
    seed: int
    requests: int
    affinity: bool = False

    def __call__(self) -> Figures:
        specs, traffic = FLEETS[self.fleet], traffic_of(self.traffic)
        rate = self.load * saturation_of(self.traffic, self.fleet, self.scaling)
        setup = Setup(specs, self.scaling, caching=self.caching, affinity=self.affinity)
        asks = traffic.draw(rate, self.requests, self.seed)
        replies = sorted(Routed(setup, Clock()).run(asks), key=lambda r: r.ask.at)
        return Figures.of(replies[int(_WARM_UP * len(replies)) :])


def _run(run: Conversing) -> Figures:
    return run()


def _row(runs: Sequence[Conversing], found: dict[Conversing, Figures]) -> list[str]:
    without = [found[run] for run in runs if not run.affinity]
    ours = [found[run] for run in runs if run.affinity]
    run = runs[0]
    cell = f"{run.traffic}, {run.fleet}, {run.scaling}, {run.load:g}, {run.caching}"
    first = statistics.fmean(each.first_p50 for each in ours)
    whole = statistics.fmean(each.p99 for each in ours)
    compared = {name: compare(ours, without, name) for name in _LESS_IS_BETTER}
    worse = [name for name, each in compared.items() if each.low > 1]
    shown = map(str, compared.values())
    return [cell, f"{first:.2f}", f"{whole:.1f}", *shown, ", ".join(worse)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--traffic", nargs="+", default=list(CONVERSATIONS))
    add("--fleets", nargs="+", default=["mixed-8"], choices=FLEETS)
    add("--profiles", nargs="+", type=Scaling, default=[Scaling.H200], choices=Scaling)
    add("--loads", nargs="+", type=float, default=(0.3, 0.7, 1.0))
    add("--caching", nargs="+", default=["FIRST"], choices=Caching.__members__)
    add("--first-seed", type=int, default=1)
    add("--seeds", type=int, default=5)
    add("--requests", type=int, default=5000)
    add("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    keeping = [Caching[name] for name in args.caching]
    cells = [
        [
            Conversing(*cell, seed, args.requests, on)
            for on in (False, True)
            for seed in seeds
        ]
        for cell in product(
            args.traffic, args.fleets, args.profiles, args.loads, keeping
        )
    ]
    runs = [run for cell in cells for run in cell]
    print(f"virtual time; {args.seeds} seeds of {args.requests} requests", flush=True)
    with ProcessPoolExecutor(args.processes) as pool:
        found = dict(zip(runs, pool.map(_run, runs), strict=True))
    head = ["traffic, fleet, profile, load, cache", "first p50 s", "p99 s"]
    head += [f"{name}: with / without" for name in _LESS_IS_BETTER.values()]
    print("\n".join(table([*head, "worse"], [_row(cell, found) for cell in cells])))


if __name__ == "__main__":
    main()
