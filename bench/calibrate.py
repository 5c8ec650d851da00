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
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.figures import table
from bench.virtual.simulated import SimulatedNode
from simulator.catalogue import CATALOGUE
from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.routed import Reply, Routed, Setup
from simulator.virtual.traffic import Traffic
from simulator.virtual.workload import MIXED_8, Ask
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

MODEL = next(each for each in CATALOGUE if each.name == "qwen2.5:7b")
POLICIES = ("shortest_completion", "least_in_flight", "round_robin")
_TIMES = 2.0  # as fast as the nodes are: an hour in half of it
_WARM_UP = 0.2
_LIMIT = 0.05


def fast(spec: Spec) -> Spec:
    return replace(
        spec, speed=_TIMES * spec.speed, prompt_speed=_TIMES * spec.prompt_speed
    )


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
    nodes = [
        Simulated(
            spec.name,
            slots=spec.slots,
            tokens_per_second=spec.speed,
            prompt_tokens_per_second=spec.prompt_speed,
            load_seconds=0.1,
        )
        for spec in map(fast, MIXED_8)
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatedFleet(Path(folder), nodes, scaling=scaling.value) as fleet,
    ):
        settings = {"DISPATCH__PICKER": policy, "DISPATCH__MAX_WAITING": "100000"}
        router = Router(
            Path(folder),
            fleet.inventory,
            prometheus_port=free_port(),
            settings=settings,
        )
        with router:
            router.wait_ready()
            asyncio.run(_load(fleet))
            time.sleep(2)  # polls see what is loaded
            return asyncio.run(_replay(router.port, asks))


async def _load(fleet: SimulatedFleet) -> None:
    await asyncio.gather(
        *(
            _post(port, {"model": MODEL.name}, "/api/generate")
            for port in fleet.ports.values()
        )
    )


async def _replay(port: int, asks: Sequence[Ask]) -> list[float]:
    began = asyncio.get_running_loop().time() + 1

    async def one(ask: Ask) -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(began + ask.at - loop.time())
        await _post(port, _body(ask), "/api/generate")
        return loop.time() - began - ask.at

    return list(await asyncio.gather(*map(one, asks)))


def _body(ask: Ask) -> dict[str, object]:
    text = "lore" * ask.prompt  # four letters a token
    options = {"num_predict": ask.tokens}
    return {"model": MODEL.name, "prompt": text, "raw": True, "options": options}


async def _post(port: int, body: dict[str, object], path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200") or b'"done":true' not in answer[-600:]:
        raise RuntimeError(f"no whole reply: {answer[:200]!r}")


def quantile(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds[int(_WARM_UP * len(seconds)) :])
    return ordered[int(share * len(ordered))]


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
        virtual = in_virtual_time(policy, args.scaling, asks)
        real = over_http(policy, args.scaling, asks)
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
