"""Where requests go and what they feel of it: the router beside simple policies.

An hour of requests takes seconds: nodes and time are simulated (`simulator/virtual`),
the router's failover, dispatcher, queue, policy, ledger and learned slots are its own.
A simple policy chooses a node when the request comes and leaves it in that node's own
queue, as nginx, olla or LiteLLM do; the oracle is the router's policy with perfect
knowledge. Everything is learned in the run; its first part is not counted.

    python -m bench.scheduling --traffic azure.csv code --loads 0.5 0.7 --seeds 5
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import product
from math import exp, inf, log
from pathlib import Path

from bench.figures import table
from bench.stage import machine
from bench.virtual.workload import CPU, MIXED_8
from simulator.virtual.clock import Clock
from simulator.virtual.figures import Figures
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.oracle import Oracle
from simulator.virtual.peers import PEERS, run_peer
from simulator.virtual.routed import Routed, Setup
from simulator.virtual.traffic import Traffic

_EQUAL = tuple(Spec(f"equal-{n}", 105, 3500) for n in range(8))
_MANY = tuple(replace(s, name=f"{s.name}-{n}") for n in range(4) for s in MIXED_8)
FLEETS: Mapping[str, Sequence[Spec]] = {
    "mixed-8": MIXED_8,
    "mixed-8 + CPU": (*MIXED_8, CPU),
    "equal-8": _EQUAL,
    "mixed-32": _MANY,
}
OURS = "expected completion"
ORACLE = "oracle"
LOADS = (0.3, 0.5, 0.7, 0.85, 0.95, 1.0, 1.2)

_WARM_UP = 0.2  # of the requests
_RESAMPLES = 2000
# Where more is better, and where less is.
FIGURES = {"p95": -1, "p99": -1, "first_p99": -1, "good": 1}


@dataclass(frozen=True, slots=True)
class Cell:
    """What is varied."""

    traffic: str
    fleet: str
    scaling: Scaling
    load: float


@lru_cache(maxsize=8)
def traffic_of(source: str) -> Traffic:
    return Traffic.of(source)


@lru_cache(maxsize=256)
def saturation_of(source: str, fleet: str, scaling: Scaling) -> float:
    return traffic_of(source).saturation(FLEETS[fleet], scaling)


@dataclass(frozen=True, slots=True)
class Run:
    """One policy in one cell with one seed; a first token's limit is the router's."""

    cell: Cell
    policy: str
    seed: int
    requests: int
    first_token_seconds: float = inf

    def __call__(self) -> Figures:
        cell, specs = self.cell, FLEETS[self.cell.fleet]
        rate = cell.load * saturation_of(cell.traffic, cell.fleet, cell.scaling)
        asks = traffic_of(cell.traffic).draw(rate, self.requests, self.seed)
        if self.policy in PEERS:
            replies = run_peer(self.policy, specs, cell.scaling, asks, self.seed)
        else:
            kind = Oracle if self.policy == ORACLE else Routed
            replies = kind(self._setup, Clock()).run(asks)
        since = asks[int(_WARM_UP * len(asks))].at
        return Figures.of([each for each in replies if each.ask.at >= since])

    @property
    def _setup(self) -> Setup:
        return Setup(
            FLEETS[self.cell.fleet],
            self.cell.scaling,
            first_token_seconds=self.first_token_seconds,
        )


def _figures(run: Run) -> Figures:
    return run()


Results = dict[Cell, dict[str, list[Figures]]]


def measure(
    cells: Iterable[Cell],
    policies: Sequence[str],
    seeds: Sequence[int],
    requests: int,
    processes: int,
    *,
    first_token_seconds: float = inf,
) -> Results:
    """Run everything; the same requests for every policy of a seed."""
    runs = [
        Run(cell, policy, seed, requests, first_token_seconds)
        for cell, policy, seed in product(cells, policies, seeds)
    ]
    results: Results = {}
    with ProcessPoolExecutor(processes) as pool:
        for run, figures in zip(runs, pool.map(_figures, runs), strict=True):
            row = results.setdefault(run.cell, {})
            row.setdefault(run.policy, []).append(figures)
    return results


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of ours over another's: the mean of the seeds and its interval."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} ({self.low:.2f} to {self.high:.2f})"


def compare(ours: Sequence[Figures], other: Sequence[Figures], figure: str) -> Compared:
    """Return the ratio with a bootstrap interval of 95 % over the seeds."""
    logs = [
        log(max(1e-9, getattr(a, figure)) / max(1e-9, getattr(b, figure)))
        for a, b in zip(ours, other, strict=True)
    ]
    rng = random.Random(len(logs))
    means = sorted(
        statistics.fmean(rng.choices(logs, k=len(logs))) for _ in range(_RESAMPLES)
    )
    low, high = means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES)]
    return Compared(exp(statistics.fmean(logs)), exp(low), exp(high))


def best(row: Mapping[str, Sequence[Figures]], figure: str) -> str:
    """Return the simple policy that does best by a figure."""
    sign = FIGURES[figure]

    def mean(policy: str) -> float:
        return sign * statistics.fmean(getattr(f, figure) for f in row[policy])

    return max((policy for policy in row if policy in PEERS), key=mean)


def losses(row: Mapping[str, Sequence[Figures]]) -> list[str]:
    """Name the figures by which we are worse than the best simple policy.

    Worse by more than the interval: all of it lies beyond equality.
    """
    found = []
    for figure, sign in FIGURES.items():
        other = best(row, figure)
        compared = compare(row[OURS], row[other], figure)
        worse = compared.high < 1 if sign > 0 else compared.low > 1
        if worse:
            found.append(f"{figure} {compared.ratio:.2f} of {other}")
    return found


def show(results: Results) -> list[str]:
    head = ["traffic, fleet, profile, load", "p50 s", "p99 s", "p99 / least conn."]
    head += ["/ weighted", "/ oracle", "first p99 s", "/ least conn.", "/ weighted"]
    head += ["good", "best simple", "failed", "worse"]
    return table(head, [_row(cell, row) for cell, row in results.items()])


def _row(cell: Cell, row: Mapping[str, Sequence[Figures]]) -> list[str]:
    ours = row[OURS]

    def mean(figure: str, of: Sequence[Figures] = ours) -> float:
        return statistics.fmean(getattr(each, figure) for each in of)

    def over(policy: str, figure: str) -> str:
        return str(compare(ours, row[policy], figure)) if policy in row else ""

    least, weighted = "least connections", "weighted least connections"
    good = best(row, "good")
    return [
        f"{cell.traffic}, {cell.fleet}, {cell.scaling}, {cell.load:g}",
        f"{mean('p50'):.2f}",
        f"{mean('p99'):.1f}",
        *(over(policy, "p99") for policy in (least, weighted, ORACLE)),
        f"{mean('first_p99'):.2f}",
        *(over(policy, "first_p99") for policy in (least, weighted)),
        f"{mean('good'):.3f}",
        f"{mean('good', row[good]):.3f}",
        f"{mean('failed'):.3f}",
        "; ".join(losses(row)),
    ]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add: Callable[..., object] = parser.add_argument
    add("--traffic", nargs="+", default=["chat"], help="traces (CSV), or shapes")
    add("--fleets", nargs="+", default=list(FLEETS), choices=FLEETS)
    add("--profiles", nargs="+", type=Scaling, default=[Scaling.H200], choices=Scaling)
    add("--loads", nargs="+", type=float, default=LOADS)
    add("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    add("--seeds", type=int, default=5)
    add("--first-seed", type=int, default=1)
    add(
        "--requests", type=int, default=8000, help="of a run; the first are not counted"
    )
    add("--first-token", type=float, default=inf, help="seconds; else refused")
    add("--processes", type=int, default=2)
    add("--out", type=Path, help="write every run's figures as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    cells = [
        Cell(*each)
        for each in product(args.traffic, args.fleets, args.profiles, args.loads)
    ]
    policies = [*args.peers, ORACLE, OURS]
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    print(f"virtual time; {args.seeds} seeds of {args.requests} requests", flush=True)
    results = measure(
        cells,
        policies,
        seeds,
        args.requests,
        args.processes,
        first_token_seconds=args.first_token,
    )
    print("\n".join(show(results)))
    worse = sum(bool(losses(row)) for row in results.values())
    print(f"worse than the best simple policy in {worse} of {len(results)} cells")
    if args.out:
        args.out.write_text(json.dumps(_report(results), indent=1) + "\n")


def _report(results: Results) -> dict[str, object]:
    runs = [
        {**asdict(cell), "policy": policy, "runs": [asdict(each) for each in figures]}
        for cell, row in results.items()
        for policy, figures in row.items()
    ]
    return {"machine": machine(), "argv": sys.argv[1:], "cells": runs}


if __name__ == "__main__":
    main()
