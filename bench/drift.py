"""How soon the router knows that a node slowed down or recovered, without being told.

Virtual time, the router's own scheduler and ledger before simulated nodes, as in
`bench/scheduling.py`. After a warm-up one node becomes 4 times slower, for a while;
everything it does takes so much longer, and nothing else shows.

* known: until the speed that decisions use is within a quarter of the true one, in
  seconds, in those of them in which it ran anything, and in replies that it completed;
* found: the same after it recovered;
* tries: requests that were sent to find out whether it recovered, and what they took
  over the median of all: the price of finding it;
* false: drifts noticed of nodes that did not change, and seconds for which a node was
  suspected of external load.

    python -m bench.drift --traffic azure.csv --loads 0.3 0.7 --seeds 4
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import product
from math import inf
from pathlib import Path

from bench.figures import table
from bench.scheduling import FLEETS, saturation_of, traffic_of
from simulator.virtual.clock import Clock
from simulator.virtual.figures import quantile
from simulator.virtual.node import Scaling
from simulator.virtual.routed import MODEL, Reply, Routed, Setup

_WARM_SECONDS = 600.0
_SLOW_SECONDS = 300.0
_AFTER_SECONDS = 300.0
_STEP_SECONDS = 0.25
_NEAR = 1.25
_TIMES = 4.0


@dataclass(frozen=True, slots=True)
class Run:
    """One node that slows down in one cell with one seed; no node: none does."""

    traffic: str
    fleet: str
    scaling: Scaling
    load: float
    node: str
    seed: int

    def __call__(self) -> Found:
        return _Watched(self).measure()


@dataclass(slots=True)
class Found:
    """Seconds and replies; inf where it was not known by the end."""

    known_seconds: float = inf
    busy_seconds: float = 0.0
    known_replies: int = 0
    found_seconds: float = inf
    tries: int = 0
    try_seconds: list[float] = field(default_factory=list)
    median_seconds: float = 0.0
    p99_seconds: float = 0.0
    false_drifts: int = 0
    suspected_share: float = 0.0


class _Watched:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.clock = Clock()
        traffic = traffic_of(run.traffic)
        rate = run.load * saturation_of(run.traffic, run.fleet, run.scaling)
        seconds = _WARM_SECONDS + _SLOW_SECONDS + _AFTER_SECONDS
        self.asks = traffic.draw(rate, int(rate * seconds * 1.2) + 20, run.seed)
        self.asks = [each for each in self.asks if each.at < seconds]
        self.routed = Routed(Setup(FLEETS[run.fleet], run.scaling), self.clock)
        self.found = Found()
        self._count_drifts()
        self.before: dict[int, float] = {}
        self.busy = 0.0
        self.looks = self.suspected = 0

    def measure(self) -> Found:
        self.clock.at(_WARM_SECONDS, self._slow)
        self.clock.at(_WARM_SECONDS + _SLOW_SECONDS, self._recover)
        self.clock.at(0.0, self._suspicions)
        replies = self.routed.run(self.asks)
        self._tries(replies)
        return self.found

    def _count_drifts(self) -> None:
        """Count what is noticed of nodes that are as they were."""
        learned = self.routed.ledger.learned
        noticed = learned.drift

        def drift(key: tuple[str, str], share: float, now: float) -> None:
            self.found.false_drifts += key[0] != self.run.node
            noticed(key, share, now)

        learned.drift = drift  # type: ignore[method-assign]

    def _suspicions(self) -> None:
        ledger = self.routed.ledger
        for name in self.routed.nodes:
            if name != self.run.node:
                self.looks += 1
                self.suspected += ledger.external(name) is not None
        self.found.suspected_share = self.suspected / self.looks
        if self.clock.now < self.asks[-1].at:
            self.clock.at(self.clock.now + 1.0, self._suspicions)

    def _speed(self, streams: int) -> float:
        curve = self.routed.ledger.curves.get((self.run.node, MODEL))
        return (curve and curve.speed(streams)) or 0.0

    def _ratio(self) -> float:
        """Return the learned speed over that before, among as many as run there."""
        streams = max(1, self.routed.ledger.in_flight(self.run.node))
        return self._speed(streams) / self.before.get(streams, self.before[1])

    def _slow(self) -> None:
        self.before = {k: self._speed(k) for k in range(1, 9)}
        self.busy = 0.0
        if self.run.node and self.before[1]:
            self.routed.nodes[self.run.node].engine.slow(_TIMES)
            self._until(lambda: self._ratio() <= _NEAR / _TIMES, self._known)

    def _recover(self) -> None:
        if self.run.node and self.before[1]:
            self.routed.nodes[self.run.node].engine.slow(1.0)
            self._until(lambda: self._ratio() >= 1 / _NEAR, self._found)

    def _until(self, done: Callable[[], bool], act: Callable[[float], None]) -> None:
        began = self.clock.now

        def look() -> None:
            if done():
                act(self.clock.now - began)
            elif self.clock.now < began + _SLOW_SECONDS - _STEP_SECONDS:
                busy = self.routed.ledger.in_flight(self.run.node) > 0
                self.busy += _STEP_SECONDS * busy
                self.clock.at(self.clock.now + _STEP_SECONDS, look)

        look()

    def _known(self, seconds: float) -> None:
        self.found.known_seconds = seconds
        self.found.busy_seconds = self.busy
        self.found.known_replies = sum(
            each.node == self.run.node
            and _WARM_SECONDS <= each.ended_at <= self.clock.now
            for each in self.routed.replies
        )

    def _found(self, seconds: float) -> None:
        self.found.found_seconds = seconds

    def _tries(self, replies: Sequence[Reply]) -> None:
        slow = [
            each
            for each in replies
            if not each.failure
            and _WARM_SECONDS + 60 <= each.ask.at < _WARM_SECONDS + _SLOW_SECONDS
        ]
        seconds = sorted(each.ended_at - each.ask.at for each in slow)
        if not seconds:
            return
        self.found.median_seconds = statistics.median(seconds)
        self.found.p99_seconds = quantile(seconds, 0.99)
        tried = [each for each in slow if each.node == self.run.node]
        self.found.tries = len(tried)
        self.found.try_seconds = [each.ended_at - each.ask.at for each in tried]


def _found(run: Run) -> Found:
    return run()


def _row(runs: Sequence[Run], found: Sequence[Found]) -> list[str]:
    def spread(values: Sequence[float], form: str = "{:.0f}") -> str:
        low, high = min(values), max(values)
        middle = statistics.median(values)
        return f"{form} ({form} to {form})".format(middle, low, high)

    run = runs[0]
    cell = (run.fleet, run.scaling, f"{run.load:g}", run.node or "none")
    tried = [each for one in found for each in one.try_seconds]
    return [
        ", ".join((Path(run.traffic).stem, *cell)),
        spread([each.known_seconds for each in found], "{:.1f}"),
        spread([each.busy_seconds for each in found], "{:.1f}"),
        spread([each.known_replies for each in found]),
        spread([each.found_seconds for each in found], "{:.1f}"),
        spread([each.tries for each in found]),
        f"{statistics.median(tried):.1f}" if tried else "-",
        f"{statistics.median([each.median_seconds for each in found]):.1f}",
        f"{statistics.median([each.p99_seconds for each in found]):.1f}",
        f"{sum(each.false_drifts for each in found)}",
        f"{statistics.fmean([each.suspected_share for each in found]):.5f}",
    ]


_HEAD = ["traffic, fleet, profile, load, node", "known s", "busy s", "replies"]
_HEAD += ["found s", "tries", "a try took s", "median s", "p99 s", "false", "suspected"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add: Callable[..., object] = parser.add_argument
    add("--traffic", nargs="+", default=["chat"], help="traces (CSV), or shapes")
    add("--fleets", nargs="+", default=["mixed-8"], choices=FLEETS)
    add("--profiles", nargs="+", type=Scaling, default=[Scaling.KERNEL])
    add("--loads", nargs="+", type=float, default=[0.3, 0.7])
    add("--nodes", nargs="+", default=["4090-a", "3060-a"])
    add("--seeds", type=int, default=4)
    add("--first-seed", type=int, default=1)
    add("--processes", type=int, default=2)
    add("--out", type=Path)
    args = parser.parse_args(argv)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    cells = product(args.traffic, args.fleets, args.profiles, args.loads, args.nodes)
    rows, report = [], []
    with ProcessPoolExecutor(args.processes) as pool:
        for cell in cells:
            runs = [Run(*cell, seed) for seed in seeds]
            found = list(pool.map(_found, runs))
            rows.append(_row(runs, found))
            report += [
                {**asdict(run), **asdict(each)}
                for run, each in zip(runs, found, strict=True)
            ]
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(table(_HEAD, rows)))


if __name__ == "__main__":
    main()
