"""The router beside its peers, over HTTP, in front of one fleet of unequal nodes.

A piece of a trace is sent through each, to simulated nodes that hold the model and are
twice as fast as real ones. `table` says how long whole replies took, and how many
requests had none. `course` has a node slow down, one die and return and a new one come,
and draws what clients saw through the router and through nginx.

    python -m bench.unequal table --traffic azure.csv
    python -m bench.unequal course --traffic azure.csv --picture course.png
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

from bench.figures import table
from bench.peers import start_litellm, start_olla
from bench.proxies import MissingError, start_nginx
from bench.replay import MODEL, Answered, Target, fast, loaded_fleet, replay
from bench.stage import machine, tell
from bench.virtual.workload import MIXED_8
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.traffic import Traffic
from simulator.virtual.workload import Ask
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import SimulatedFleet

PROXIES = ("router", "nginx", "olla", "litellm")
NEW = Spec("4090-new", 137, 7000)
_CHAT = "/api/chat"
# By its own settings nginx gives up after a minute, asks by a name of its own, which
# Ollama refuses, and writes bodies where its worker may not.
_NGINX = (
    "proxy_read_timeout 600s; proxy_set_header Host $host;"
    " client_max_body_size 64m; client_body_buffer_size 64m;"
)
_WARM_UP = 0.2  # of the requests, which are not counted: the router knows no speed yet


@contextlib.contextmanager
def target(name: str, folder: Path, fleet: SimulatedFleet) -> Iterator[Target]:
    """Start a proxy for those in the inventory. Raises MissingError."""
    ports = [fleet.ports[each["labels"]["node"]] for each in fleet.entries]
    port = free_port()
    if name == "router":
        router = Router(folder, fleet.inventory, prometheus_port=free_port(), port=port)
        with router:
            router.wait_ready()
            time.sleep(2)  # polls see what is loaded
            yield Target(port, _CHAT, whole=True)
        return
    if name == "nginx":
        proxy = start_nginx(folder, port, ports, more=_NGINX)
    elif name == "olla":
        proxy = start_olla(folder, port, ports)
    else:
        proxy = start_litellm(
            folder, port, ports, model=MODEL.name, strategy="least-busy"
        )
    try:
        path = proxy.path if name != "nginx" else _CHAT
        yield Target(port, path, whole=True)
    finally:
        proxy.process.stop()


def measure(
    name: str,
    asks: Sequence[Ask],
    scaling: Scaling,
    events: Sequence[Event] = (),
    new: Sequence[Spec] = (),
) -> list[Answered]:
    """Send the requests through a proxy to a fleet of its own; `events` befall it."""
    specs = [fast(spec) for spec in (*MIXED_8, *new)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with loaded_fleet(path, specs, scaling) as fleet:
            everybody = fleet.entries
            fleet.entries = everybody[: len(MIXED_8)]
            fleet.write(fleet.entries)
            with target(name, path, fleet) as at:
                tell(f"{len(asks)} requests through {name}")
                began = time.monotonic() + 1
                timers = [
                    threading.Timer(
                        began + each.at - time.monotonic(),
                        each.befall,
                        (fleet, everybody),
                    )
                    for each in events
                ]
                for timer in timers:
                    timer.start()
                try:
                    return asyncio.run(replay(at, asks))
                finally:
                    for timer in timers:
                        timer.cancel()


def rows(runs: Mapping[str, Sequence[Answered]]) -> list[list[str]]:
    """Return what whole replies took, and how often there was none."""
    made = []
    for name, answers in runs.items():
        counted = answers[int(_WARM_UP * len(answers)) :]
        took = [f"{quantile(counted, share):.2f} s" for share in (0.5, 0.95, 0.99)]
        failed = sum(bool(each.fault) for each in answers)
        made.append([name, str(len(answers)), str(failed), *took])
    return made


def quantile(answers: Sequence[Answered], share: float) -> float:
    """Return a quantile of what good replies took; NaN where there is none."""
    seconds = sorted(each.seconds for each in answers if not each.fault)
    return seconds[int(share * (len(seconds) - 1))] if seconds else nan


# The course of a fleet


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to the fleet, `at` seconds after the first request could come."""

    at: float
    name: str
    befall: Callable[[SimulatedFleet, Sequence[dict[str, object]]], object]


EVENTS = (
    Event(40, "4090-a is 4 x slower", lambda f, _: f.put("4090-a", "slow", factor=4.0)),
    Event(80, "is well again", lambda f, _: f.clear("4090-a")),
    Event(110, "4090-b dies", lambda f, _: f.put("4090-b", "refuse", reset=True)),
    Event(140, "returns", lambda f, _: f.clear("4090-b")),
    Event(170, "4090-new comes", lambda f, everybody: f.write(everybody)),
)
COURSE_SECONDS = 210.0
_SHOWN_NODES = {"4090-a": "tab:red", "4090-b": "tab:purple", "4090-new": "tab:green"}
_WINDOW_SECONDS = 10.0


def draw(runs: Mapping[str, Sequence[Answered]], title: str, path: Path) -> None:
    """Draw what clients saw, and where the router sent them."""
    # Only here: it takes a second to import, and the table needs none of it.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (times, shares) = plt.subplots(
        2, 1, figsize=(11, 7), sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    for name, colour in zip(runs, ("tab:blue", "tab:orange"), strict=True):
        good = [each for each in runs[name] if not each.fault]
        bad = [each for each in runs[name] if each.fault]
        dots = {"s": 5, "alpha": 0.25, "color": colour, "linewidths": 0}
        times.scatter([e.at for e in good], [e.seconds for e in good], **dots)
        at, p95 = rolling(good, 0.95)
        times.plot(at, p95, color=colour, label=f"{name}: p95 of {_WINDOW_SECONDS:g} s")
        label = f"{name}: {len(bad)} failed"
        ticks = [0.05] * len(bad)
        times.scatter([e.at for e in bad], ticks, marker="x", color=colour, label=label)
    times.set_yscale("log")
    times.set_ylabel("whole reply, s (by arrival)")
    times.legend(loc="lower left", ncols=len(runs))
    times.set_xlim(0, COURSE_SECONDS)
    times.set_title(title)
    router = runs["router"]
    for node, colour in _SHOWN_NODES.items():
        at = [each.at for each in router if each.node == node]
        steps = range(0, int(COURSE_SECONDS), 5)
        counts = [sum(s <= each < s + 5 for each in at) / 5 for s in steps]
        shares.step(steps, counts, where="post", color=colour, label=node)
    shares.set_ylabel("requests/s from the router")
    shares.set_xlabel("s")
    shares.legend(loc="lower left", ncols=len(_SHOWN_NODES))
    for event in EVENTS:
        for axes in (times, shares):
            axes.axvline(event.at, color="black", linewidth=0.8, linestyle="--")
        place = (event.at, 0.98)
        times.text(
            *place, f" {event.name}", transform=times.get_xaxis_transform(), va="top"
        )
    figure.savefig(path, dpi=90)


def rolling(
    answers: Sequence[Answered], share: float
) -> tuple[list[float], list[float]]:
    """Return a quantile of what arrived in each window of time, step by step."""
    at, found = [], []
    for step in range(int(_WINDOW_SECONDS), int(COURSE_SECONDS) + 1, 2):
        window = [each for each in answers if step - _WINDOW_SECONDS <= each.at < step]
        at.append(step - _WINDOW_SECONDS / 2)
        found.append(quantile(window, share))
    return at, found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["table", "course"])
    parser.add_argument("--traffic", default="chat", help="a trace (CSV), or a shape")
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--scaling", type=Scaling, default=Scaling.KERNEL)
    parser.add_argument("--proxies", nargs="+", choices=PROXIES, default=PROXIES)
    parser.add_argument("--picture", type=Path, default=Path("course.png"))
    args = parser.parse_args(argv)
    course = args.what == "course"
    traffic = Traffic.of(args.traffic)
    rate = args.load * traffic.saturation([fast(s) for s in MIXED_8], args.scaling)
    count = int(rate * COURSE_SECONDS) if course else args.requests
    drawn = traffic.draw(rate, count, seed=1)
    asks = [replace(ask, model=MODEL.name) for ask in drawn]
    load, runs = os.getloadavg()[0], {}
    for name in ("router", "nginx") if course else args.proxies:
        try:
            if course:
                runs[name] = measure(name, asks, args.scaling, EVENTS, (NEW,))
            else:
                runs[name] = measure(name, asks, args.scaling)
        except MissingError as error:
            tell(f"left out: {name}: {error}")
    print(f"{machine()}, load average {load:.1f} to {os.getloadavg()[0]:.1f}")
    print(f"{traffic.name}, {args.scaling}, {rate:.1f} requests/s (load {args.load:g})")
    print(
        "\n".join(
            table(["through", "requests", "failed", "p50", "p95", "p99"], rows(runs))
        )
    )
    if course:
        title = (
            "Simulated nodes (mixed-8, twice real speed) behind the router and nginx"
        )
        draw(runs, title, args.picture)


if __name__ == "__main__":
    main()
