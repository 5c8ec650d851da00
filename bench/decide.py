"""What deciding on a node costs for each request, by the size of the fleet.

The router's own dispatcher, without network and clients: `decide` is the dry run
(filters, expected times, pick), `take` is what a request does: decide, take a slot,
give it back. Every node has the models, half of the nodes have one loaded, speeds
are measured, and a third of the slots is in use.

    python -m bench.decide --nodes 8 64
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bench.figures import table
from bench.stage import machine
from router.capacity.ledger import Ledger
from router.holds.store import HoldStore
from router.model import Node, Outcome, Priority, Score, Timings
from router.pickers import Policies
from router.runtime.cancellation import Cancellation
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Queue
from router.scheduling.scheduler import Scheduler
from router.snapshot import NodeView, PresentModel, Published, ResidentModel, Snapshot

T = TypeVar("T")

_SLOTS = 4
_MODELS = 20  # present on each node
_MODEL = "model-0:latest"
_WAIT_SECONDS = 1.0
_DONE = Timings(prompt_tokens=8, generated_tokens=100, generate_seconds=2.0)


class _Forgetful:
    """A journal that restarts nothing."""

    def load(self) -> tuple[()]:
        return ()

    def save(self, changes: Callable[[], T]) -> T:
        return changes()


def fleet(nodes: int) -> Scheduler:
    """Build a dispatcher over `nodes` nodes, a third of their slots in use."""
    views = {view.node.name: view for view in map(_view, range(nodes))}
    holds = HoldStore(_Forgetful())
    holds.fleet(views)
    ledger = Ledger(_SLOTS, time.monotonic)
    ledger.configure(view.node for view in views.values())
    for name in views:
        ledger.take(name, _MODEL).done(Outcome.END, _DONE)
    dispatcher = Scheduler(
        Published(Snapshot(views, made_at=time.monotonic())),
        holds,
        ledger,
        Queue(10),
        Policies(),
        clock=time.monotonic,
    )
    for _ in range(nodes * _SLOTS // 3):
        acquire(dispatcher)
    return dispatcher


def _view(index: int) -> NodeView:
    name = f"node-{index}"
    names = [f"model-{number}:latest" for number in range(_MODELS)]
    present = {each: PresentModel(each, "0" * 64, 4_000_000_000) for each in names}
    loaded = ResidentModel(_MODEL, "0" * 64, 4_000_000_000, 4_000_000_000)
    return NodeView(
        Node(name, f"http://{name}:11434", slots=_SLOTS),
        Score(0.5 + index % 5 / 10),
        present=present,
        resident={_MODEL: loaded} if index % 2 == 0 else {},
    )


def acquire(dispatcher: Scheduler) -> Callable[[], None]:
    """Take a slot as a request does; the answer gives it back."""
    deadline = time.monotonic() + _WAIT_SECONDS
    assignment = dispatcher.acquire(
        RoutingRequest(_MODEL), Priority.INTERACTIVE, Cancellation(), deadline
    )
    return lambda: assignment.lease.done(Outcome.CLIENT_GONE)


def measure(nodes: int, calls: int) -> dict[str, dict[str, float]]:
    dispatcher = fleet(nodes)
    return {
        "decide": _times(lambda: dispatcher.explain(RoutingRequest(_MODEL)), calls),
        "take": _times(lambda: acquire(dispatcher)(), calls),  # noqa: PLW0108
    }


def _times(act: Callable[[], object], calls: int) -> dict[str, float]:
    """Time each call, in microseconds of CPU and so without its neighbours."""
    seconds = []
    for _ in range(calls):
        began = time.thread_time_ns()
        act()
        seconds.append((time.thread_time_ns() - began) / 1e3)
    seconds.sort()
    return {
        "p50_us": statistics.median(seconds),
        "p99_us": seconds[int(0.99 * len(seconds))],
    }


def show(report: dict) -> str:
    rows = [
        [nodes, *(f"{each[act][q]:.1f}" for act in each for q in each[act])]
        for nodes, each in report["nodes"].items()
    ]
    head = ["nodes", "decide p50 us", "p99", "take and give back p50 us", "p99"]
    return "\n".join(
        [
            report["machine"],
            f"load average {report['load_average']:.1f}",
            *table(head, rows),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="what a decision costs")
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    report = {
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "nodes": {str(count): measure(count, args.calls) for count in args.nodes},
    }
    print(show(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
