"""What a client that floods costs another one, in virtual time.

One client asks for a part of the fleet, alone and then beside another that asks for
many times its share. The router's own queue, dispatcher, ledger and learned speeds run
in front of simulated nodes (`simulator/virtual`). `limited` is the same where the
flood's key has a limit of concurrent requests; `jobs` where a job without end takes
idle slots as well; `one line` with both clients taken for one: first come, first
served.

    python -m bench.fairness --loads 0.2 0.4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.figures import table
from bench.stage import machine
from bench.virtual.runner import Fleet, VirtualRunner
from bench.virtual.workload import CPU, MIXED_8, Items
from router.jobs.planning.speeds import LearnedSpeeds
from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling
from simulator.virtual.routed import Reply, Routed, Setup
from simulator.virtual.traffic import Traffic
from simulator.virtual.workload import Ask

FLEETS = {"mixed-8": MIXED_8, "mixed-8 + CPU": (*MIXED_8, CPU)}
_SHARE = 0.5  # of the fleet, for each of two
_WARM = 0.2  # of the requests, not counted
_WAITING = 512  # the router's default
_MOST = 8  # requests of a key that has a limit: a quarter of the slots
_ENDLESS = 30_000  # items: more than any run gets done
_CLIENTS: dict[str, dict[str, Any]] = {
    "alone": {"times": 0.0},
    "beside": {},
    "limited": {"most": _MOST},
    "alone, jobs": {"times": 0.0, "jobs": True},
    "beside, jobs": {"jobs": True},
    "limited, jobs": {"most": _MOST, "jobs": True},
    "one line": {"fair": False},
}
_Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Flood:
    """One run: `load` is the polite client's, `times` the flood over its share.

    most: requests of the flood at once, others are refused; 0: any number
    jobs: whether a job takes what is idle
    """

    load: float
    times: float
    fleet: str = "mixed-8"
    scaling: Scaling = Scaling.KERNEL
    seconds: float = 300.0
    seed: int = 101
    fair: bool = True
    most: int = 0
    jobs: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What the polite client saw: seconds, and requests that were not answered.

    others: tokens/s of answers that the flood had
    idle:   share of the slots that neither used
    items:  of the job that were done
    """

    asked: int
    failed: int
    wait_p99: float
    first_p99: float
    whole_p99: float
    others: float
    idle: float
    items: int = 0


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
            self.dispatcher.refused(reply.ask.principal)
            reply.failure = "limit"


class _IdleFleet(Fleet):
    """The same nodes as a job sees them: items run beside requests, in their slots."""

    def __init__(self, routed: Routed) -> None:  # none of its own is made
        self.clock, self.ledger = routed.clock, routed.ledger
        self.nodes = {name: each.engine for name, each in routed.nodes.items()}
        self.snapshot = routed.published.current
        self.speeds = LearnedSpeeds(
            self.ledger, lambda: routed.published.current, lambda: self.clock.now
        )


class _Job:
    """A job without end that takes what is idle, as `router.jobs` does.

    Nothing is begun while anybody waits, nor where a request runs; what runs there is
    taken back when one comes.
    """

    def __init__(self, routed: Routed, seed: int, until: float) -> None:
        self._routed, self._until = routed, until
        fleet = _IdleFleet(routed)
        self.runner = VirtualRunner(
            fleet,
            Items(None).draw(_ENDLESS, seed),
            may_use=self._may_use,
            quiet=fleet.ledger.quiet_seconds,
            revocable=True,
            text_kept=True,
        )
        self._tick()

    def _tick(self) -> None:
        """Look again each second, as a runner does, until it is late."""
        self.runner.serve()
        clock = self._routed.clock
        if clock.now < self._until:
            clock.at(clock.now + 1.0, self._tick)

    def _may_use(self, node: str) -> bool:
        routed = self._routed
        if len(routed.dispatcher.queue) or routed.clock.now > self._until:
            return False
        return routed.ledger.in_flight(node) == len(self.runner.in_flight.on(node))


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
    clock = Clock()
    routed = _Limited(setup, clock, flood.most) if flood.most else Routed(setup, clock)
    job = _Job(routed, flood.seed, flood.seconds) if flood.jobs else None
    replies = routed.run(asks)
    served = _served(replies, (_WARM * flood.seconds, flood.seconds))
    slots = sum(spec.slots for spec in specs)
    idle = 1 - served.idle / slots
    return replace(served, idle=idle, items=job.runner.tally.done if job else 0)


def _asks(traffic: Traffic, flood: Flood, rate: float, who: str) -> list[Ask]:
    count = round(rate * flood.seconds)
    asks = traffic.draw(rate, count, flood.seed + (who == "flood"))
    return [replace(ask, principal=who, session=who == "polite") for ask in asks]


def _served(replies: Sequence[Reply], span: _Span) -> Served:
    """Return what is counted, with the slots that were busy for `idle`."""
    since, until = span
    counted = [r for r in replies if r.ask.session and r.ask.at > since]
    answered = [r for r in counted if not r.failure]
    ran = [r for r in replies if not r.failure]
    flood = [r for r in ran if not r.ask.session and since < r.ended_at <= until]
    return Served(
        len(counted),
        len(counted) - len(answered),
        _p99([r.slot_at - r.ask.at for r in answered]),
        _p99([r.first_at - r.ask.at for r in answered]),
        _p99([r.ended_at - r.ask.at for r in answered]),
        sum(r.ask.tokens for r in flood) / (until - since),
        sum(_within(r, span) for r in ran) / (until - since),
    )


def _within(reply: Reply, span: _Span) -> float:
    return max(0.0, min(reply.ended_at, span[1]) - max(reply.slot_at, span[0]))


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))] if values else float("inf")


def show(flood: Flood, clients: Sequence[str]) -> list[list[str]]:
    named = [flood.fleet, flood.scaling, f"{flood.load:g}"]
    served = {name: run(replace(flood, **_CLIENTS[name])) for name in clients}
    alone = served["alone"].whole_p99 if "alone" in served else float("nan")
    return [[*named, name, *_row(each, alone)] for name, each in served.items()]


def _row(served: Served, alone: float) -> list[str]:
    failed = f"{served.failed} of {served.asked}"
    times = (served.wait_p99, served.first_p99, served.whole_p99)
    return [
        failed,
        *(f"{each:.2f}" for each in times),
        f"{served.whole_p99 / alone:.2f}",
        f"{served.others:.0f}",
        f"{served.idle:.2f}",
        str(served.items),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--times", type=float, default=20.0)
    parser.add_argument("--fleets", nargs="+", choices=FLEETS, default=["mixed-8"])
    profiles = [str(each) for each in Scaling]
    parser.add_argument("--profiles", nargs="+", choices=profiles, default=["kernel"])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--clients", nargs="+", choices=_CLIENTS, default=_CLIENTS)
    args = parser.parse_args(argv)
    print(machine())
    head = [
        *(
            "fleet",
            "profile",
            "load",
            "client",
            "not answered",
            "wait p99 s",
            "first",
            "whole",
        ),
        *("over alone", "flood tokens/s", "slots idle", "items"),
    ]
    rows = [
        row
        for fleet in args.fleets
        for profile in args.profiles
        for load in args.loads
        for row in show(
            Flood(load, args.times, fleet, Scaling(profile), args.seconds, args.seed),
            args.clients,
        )
    ]
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    main()
