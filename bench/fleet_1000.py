"""What a fleet of 1,000 nodes costs: control passes, memory, gaps, rules.

Real Prometheus (each node scraped every 15 s, the shipped rules) and router, nodes
from one process. Streams run all the time; the same load is measured once with passes
as they are shipped, and once with one pass only. Polls of nodes are the same in both.

    python -m bench.fleet_1000 --out fleet.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import requests

from bench.figures import table
from bench.many_nodes import entries
from bench.stage import line_of, machine, own_load, result_of, tell
from launcher import rendering
from launcher.services import Paths, Ports, services
from tests.harness.poll import until
from tests.harness.ports import free_port, free_ports
from tests.harness.process import ROOT, Process
from tests.harness.stack import programs

_PASS = "inferops_control_pass_duration_seconds"
_GROUP = 'rule_group=~".*inferops-health"'
_SETTINGS = {
    # 1,000 nodes are not asked for their models every 3 s: by default this takes a
    # third of a core, with or without passes.
    "CONTROL__RESIDENT_INTERVAL_SECONDS": "60",
    "CONTROL__PRESENT_INTERVAL_SECONDS": "300",
}
_NO_PASSES = {
    "CONTROL__INTERVAL_SECONDS": "3600",
    "CONTROL__STALE_AFTER_SECONDS": "7200",
    "CONTROL__FORGET_AFTER_SECONDS": "14400",
    "CONTROL__DOORBELL_SECONDS": "7200",
}


@dataclass(frozen=True)
class Place:
    """Where the parts are."""

    folder: Path
    ports: Ports
    paths: Paths


@contextlib.contextmanager
def prepared(nodes: int, tokens_per_second: float) -> Iterator[Place]:
    """Run the nodes and Prometheus, and wait until every node is scraped."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        inventory = folder / "nodes.yml"
        inventory.write_text(json.dumps(entries(nodes, port, 1)))
        argv = [sys.executable, "-m", "bench.many_nodes", "--port", str(port)]
        argv += ["--tokens-per-second", str(tokens_per_second)]
        fleet = Process(argv, log=folder / "nodes.log")
        stack.callback(fleet.stop)
        place = _place(folder, inventory)
        stack.callback(_prometheus(place).stop)
        yield place


def _place(folder: Path, inventory: Path) -> Place:
    ports = Ports(*free_ports(len(Ports.__dataclass_fields__)))
    paths = Paths(root=ROOT, run=folder / "run", inventory=inventory)
    for each in (paths.data, paths.logs, paths.secrets):
        each.mkdir(parents=True)
    # 15 s for the nodes; the rules keep the interval that they are shipped with.
    rendering.render(ports, paths, rendering.Intervals(15, 15))
    return Place(folder, ports, paths)


def _prometheus(place: Place) -> Process:
    (part,) = [
        p
        for p in services(place.ports, place.paths, programs())
        if p.name == "prometheus"
    ]
    return Process(part.argv, log=place.folder / "prometheus.log", env=part.env)


@contextlib.contextmanager
def router(place: Place, name: str, settings: Mapping[str, str]) -> Iterator[Process]:
    """Run a router, and wait until it has polled every node."""
    (part,) = [
        p for p in services(place.ports, place.paths, programs()) if p.name == "router"
    ]
    env = {f"INFEROPS_{k}": v for k, v in {**_SETTINGS, **settings}.items()}
    env["INFEROPS_STATE__DIRECTORY"] = str(place.folder / name)
    log = place.folder / f"{name}.log"
    process = Process(part.argv, log=log, env={**part.env, **env})
    try:
        until(lambda: requests.get(part.health, timeout=5).ok, "router", seconds=180)
        yield process
    finally:
        process.stop()


def query(place: Place, expression: str) -> float:
    url = f"http://127.0.0.1:{place.ports.prometheus}/api/v1/query"
    answer = requests.get(url, params={"query": expression}, timeout=30).json()
    result = answer["data"]["result"]
    return float(result[0]["value"][1]) if result else float("nan")


def metrics(place: Place) -> dict[str, float]:
    url = f"http://127.0.0.1:{place.ports.router}/metrics"
    lines = requests.get(url, timeout=30).text.splitlines()
    found = re.compile(rf"({_PASS}_(?:sum|count)) (\S+)")
    return {m[1]: float(m[2]) for line in lines if (m := found.fullmatch(line))}


def memory_bytes(process: Process) -> int:
    """Return what the worker holds; the arbiter holds no streams."""
    workers = psutil.Process(process.pid).children(recursive=True)
    return max(each.memory_info().rss for each in workers)


def loaded(place: Place, process: Process, args: argparse.Namespace) -> dict:
    """Run the streams, and give what they, the passes and the memory came to."""
    argv = own_load("streams", "--targets", f"{place.ports.router}/api/chat")
    argv += ["--streams", str(args.streams), "--seconds", str(args.seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        line_of(child)  # begin
        before = metrics(place)
        line_of(child)  # end
        after = metrics(place)
        memory = memory_bytes(process)
        result = result_of(child)
    count = after[f"{_PASS}_count"] - before[f"{_PASS}_count"]
    seconds = after[f"{_PASS}_sum"] - before[f"{_PASS}_sum"]
    return {
        "passes": count,
        "pass_seconds": seconds / count if count else None,
        "memory_mib": memory / 2**20,
        "gap_ms": result["gap_ms"],
        "tokens_per_second": result["tokens"] / result["seconds"],
        "faults": result["faults"],
    }


def scraped(place: Place, nodes: int) -> bool:
    wanted = f"count(node_gpu:temperature:celsius) == {nodes}"
    return query(place, wanted) == nodes


def measure(args: argparse.Namespace) -> dict[str, object]:
    with prepared(args.nodes, args.tokens_per_second) as place:
        runs: dict[str, list[dict]] = {"with passes": [], "without": []}
        rules: dict[str, float] = {}
        for turn in range(args.rounds):
            for name, settings in (("without", _NO_PASSES), ("with passes", {})):
                tell(f"{name}, round {turn + 1}")
                with router(place, f"{name.split()[0]}-{turn}", settings) as process:
                    if name == "with passes":
                        until(
                            partial(scraped, place, args.nodes),
                            "every node is scraped",
                            seconds=180,
                            every=1,
                        )
                    runs[name].append(loaded(place, process, args))
                    rules = rule_figures(place)
    return {
        "machine": machine(),
        "begun_at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "load_average": os.getloadavg()[0],
        "nodes": args.nodes,
        "streams": args.streams,
        "runs": runs,
        "rules": rules,
    }


def rule_figures(place: Place) -> dict[str, float]:
    """Say how long the rules take; Prometheus' own words about itself."""
    base = f"http://127.0.0.1:{place.ports.prometheus}/api/v1/rules"
    groups = requests.get(base, timeout=30).json()["data"]["groups"]
    return {
        f"{each['name']} (every {each['interval']:g} s)": each["evaluationTime"]
        for each in groups
    }


def show(report: dict) -> str:
    rows = [
        [
            name,
            f"{run['passes']:.0f}",
            "" if run["pass_seconds"] is None else f"{run['pass_seconds']:.2f}",
            f"{run['memory_mib']:.0f}",
            *(f"{run['gap_ms'][q]:.0f}" for q in ("p50", "p99", "largest")),
            f"{run['tokens_per_second']:.0f}",
            str(run["faults"]),
        ]
        for name, runs in report["runs"].items()
        for run in runs
    ]
    head = [
        "",
        "passes",
        "s each",
        "MiB",
        "gap p50 ms",
        "p99",
        "largest",
        "tok/s",
        "bad",
    ]
    rules = [[name, f"{seconds:.3f}"] for name, seconds in report["rules"].items()]
    load = f"load average {report['load_average']:.1f}"
    return "\n".join(
        [
            report["machine"],
            f"{report['nodes']} nodes, {report['streams']} streams, {load}",
            *table(head, rows),
            *table(["rules", "s to evaluate"], rules),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="what a thousand nodes cost")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--tokens-per-second", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    report = measure(args)
    print(show(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
