"""The router in virtual time beside the router over HTTP, on the same simulated nodes.

The same piece of traffic twice for each policy: as greenlets in virtual time, and from
a load generator over HTTP through a router process to `python -m simulator`, whose
engine plays the nodes in both. Agreement of the 50th and 95th percentile within 5 %
shows that what virtual time leaves out (sockets, bodies, the relay) decides nothing.

    python -m bench.calibrate --traffic azure.csv --requests 1200
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.figures import table
from bench.replay import MODEL, Target, fast, loaded_fleet, replay
from bench.virtual.simulated import SimulatedNode
from bench.virtual.workload import MIXED_8
from simulator.virtual.clock import Clock
from simulator.virtual.figures import quantile
from simulator.virtual.node import Scaling
from simulator.virtual.routed import Reply, Routed, Setup
from simulator.virtual.traffic import Traffic
from simulator.virtual.workload import Ask
from tests.harness.ports import free_port
from tests.harness.router import Router

POLICIES = ("shortest_completion", "least_in_flight", "round_robin")
_WARM_UP = 0.2
_LIMIT = 0.05


class Simulation(Routed):
    """The router over the simulator's engines."""

    def _nodes(self) -> dict[str, SimulatedNode]:  # type: ignore[override]
        setup = self.setup
        return {
            spec.name: SimulatedNode(spec, setup.scaling, self.clock, MODEL)
            for spec in setup.specs
        }


def in_virtual_time(policy: str, scaling: Scaling, asks: Sequence[Ask]) -> list[float]:
    specs = [fast(spec) for spec in MIXED_8]
    setup = Setup(specs, scaling, policy, models=(MODEL.name,))
    replies = Simulation(setup, Clock()).run(asks)
    return _seconds(replies)


def _seconds(replies: Sequence[Reply]) -> list[float]:
    return [each.ended_at - each.ask.at for each in replies if not each.failure]


def over_http(policy: str, scaling: Scaling, asks: Sequence[Ask]) -> list[float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with loaded_fleet(folder, [fast(spec) for spec in MIXED_8], scaling) as fleet:
            settings = {"DISPATCH__PICKER": policy, "DISPATCH__MAX_WAITING": "100000"}
            router = Router(
                folder,
                fleet.inventory,
                prometheus_port=free_port(),
                settings=settings,
            )
            with router:
                router.wait_ready()
                time.sleep(2)  # polls see what is loaded
                target = Target(router.port, "/api/generate")
                answers = asyncio.run(replay(target, asks))
    if bad := next((each.fault for each in answers if each.fault), ""):
        raise RuntimeError(f"no complete reply: {bad}")
    return [each.seconds for each in answers]


def counted(seconds: Sequence[float]) -> list[float]:
    """Return those behind the warm-up, sorted."""
    return sorted(seconds[int(_WARM_UP * len(seconds)) :])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--traffic", default="chat", help="a trace (CSV), or a shape")
    parser.add_argument("--load", type=float, default=0.6)
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--scaling", type=Scaling, default=Scaling.KERNEL)
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    args = parser.parse_args(argv)
    traffic = Traffic.of(args.traffic)
    rate = args.load * traffic.saturation([fast(s) for s in MIXED_8], args.scaling)
    asks = [
        replace(ask, model=MODEL.name)
        for ask in traffic.draw(rate, args.requests, seed=1)
    ]
    rows, agree = [], True
    for policy in args.policies:
        virtual = counted(in_virtual_time(policy, args.scaling, asks))
        real = counted(over_http(policy, args.scaling, asks))
        for share in (0.5, 0.95):
            there, here = quantile(real, share), quantile(virtual, share)
            off = here / there - 1
            agree = agree and abs(off) <= _LIMIT
            rows.append(
                [
                    policy,
                    f"p{100 * share:g}",
                    f"{there:.3f}",
                    f"{here:.3f}",
                    f"{off:+.1%}",
                ]
            )
    head = ["policy", "", "HTTP s", "virtual s", "off by"]
    print("\n".join(table(head, rows)))
    print("agreed" if agree else "did not agree", f"within {_LIMIT:.0%}")


if __name__ == "__main__":
    main()
