"""What a client that floods costs another one, in virtual time.

One client asks for a part of the fleet, alone and then beside another that asks for
many times its share. The router's own queue, dispatcher, ledger and learned speeds run
in front of simulated nodes (`simulator/virtual`). `limited` is the same where the
flood's key has a limit of concurrent requests; `one line` the same with both clients
taken for one: first come, first served.

    python -m bench.fairness --loads 0.2 0.4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.figures import table
from bench.stage import machine
from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling
from simulator.virtual.routed import Reply, Routed, Setup
from simulator.virtual.traffic import Traffic
from simulator.virtual.workload import CPU, MIXED_8, Ask

FLEETS = {"mixed-8": MIXED_8, "mixed-8 + CPU": (*MIXED_8, CPU)}
_SHARE = 0.5  # of the fleet, for each of two
_WARM = 0.2  # of the requests, not counted
_WAITING = 512  # the router's default
_MOST = 8  # requests of a key that has a limit: a quarter of the slots


@dataclass(frozen=True, slots=True)
class Flood:
    """One run: `load` is the polite client's, `times` the flood over its share.

    most: requests of the flood at once, others are refused; 0: any number
    """

    load: float
    times: float
    fleet: str = "mixed-8"
    scaling: Scaling = Scaling.KERNEL
    seconds: float = 300.0
    seed: int = 101
    fair: bool = True
    most: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """What the polite client saw: seconds, and requests that were not answered."""

    asked: int
    failed: int
    wait_p99: float
    first_p99: float
    whole_p99: float


class _Limited(Routed):
    """Refuses a flood that has too many under way, as a key's limit does."""

    def __init__(self, setup: Setup, clock: Clock, most: int) -> None:
        super().__init__(setup, clock)
        self._free = most

    def _request(self, reply: Reply) -> None:
        if reply.ask.principal != "flood":
            super()._request(reply)
        elif self._free:
            self._free -= 1
            super()._request(reply)
            self._free += 1
        else:
            reply.failure = "limit"


def run(flood: Flood) -> Served:
    """Return how the polite client was served."""
    specs, traffic = FLEETS[flood.fleet], Traffic.of("chat")
    rate = traffic.saturation(specs, flood.scaling)
    polite = _asks(traffic, flood, flood.load * rate, "polite")
    asks = polite
    if flood.times:
        many = _asks(traffic, flood, flood.times * _SHARE * rate, "flood")
        asks = sorted([*polite, *many], key=lambda each: each.at)
    if not flood.fair:
        asks = [replace(each, session=each.principal == "polite") for each in asks]
        asks = [replace(each, principal="") for each in asks]
    setup = Setup(specs, flood.scaling, max_waiting=_WAITING)
    routed = _Limited(setup, Clock(), flood.most) if flood.most else None
    replies = (routed or Routed(setup, Clock())).run(asks)
    return _served([r for r in replies if r.ask.session], flood.seconds)


def _asks(traffic: Traffic, flood: Flood, rate: float, who: str) -> list[Ask]:
    count = round(rate * flood.seconds)
    asks = traffic.draw(rate, count, flood.seed + (who == "flood"))
    return [replace(ask, principal=who, session=who == "polite") for ask in asks]


def _served(replies: Sequence[Reply], seconds: float) -> Served:
    counted = [r for r in replies if r.ask.at > _WARM * seconds]
    answered = [r for r in counted if not r.failure]
    return Served(
        len(counted),
        len(counted) - len(answered),
        _p99([r.slot_at - r.ask.at for r in answered]),
        _p99([r.first_at - r.ask.at for r in answered]),
        _p99([r.ended_at - r.ask.at for r in answered]),
    )


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))] if values else float("inf")


def show(flood: Flood) -> list[list[str]]:
    rows = {
        "alone": replace(flood, times=0.0),
        "beside": flood,
        "limited": replace(flood, most=_MOST),
        "one line": replace(flood, fair=False),
    }
    named = [flood.fleet, f"{flood.load:g}"]
    return [[*named, name, *_row(run(each))] for name, each in rows.items()]


def _row(served: Served) -> list[str]:
    failed = f"{served.failed} of {served.asked}"
    times = (served.wait_p99, served.first_p99, served.whole_p99)
    return [failed, *(f"{each:.2f}" for each in times)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--times", type=float, default=20.0)
    parser.add_argument("--fleets", nargs="+", choices=FLEETS, default=["mixed-8"])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=101)
    args = parser.parse_args(argv)
    print(machine())
    head = ["fleet", "load", "client", "not answered", "wait p99 s", "first", "whole"]
    rows = [
        row
        for fleet in args.fleets
        for load in args.loads
        for row in show(
            Flood(load, args.times, fleet, seconds=args.seconds, seed=args.seed)
        )
    ]
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    main()
