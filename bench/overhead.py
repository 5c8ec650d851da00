"""What the router costs beside nginx, over one simulated fleet in one run.

* added time to the first token: direct, nginx and router are called in random
  order, round by round, one call at a time; the difference to the direct call of
  the same round is what was added;
* CPU time per relayed token, user and system, of all of a proxy's processes,
  while many streams run; the proxies take turns.

Fleet and load generator share one core, the proxy has the other. Nothing is
asserted: the figures are printed, and written to --out.

    python -m bench.overhead --streams 50 300 --seconds 10 --out overhead.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load import TOKENS
from bench.proxies import MissingError, Proxy, on_core, start_nginx, start_router
from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import ROOT, Process

NODES = 4
TOKENS_PER_SECOND = 50

# A load generator that is still not done is ended: it hangs.
_LONGEST_RUN_SECONDS = 600

# Below this share of the tokens that the fleet wants to send, something was full,
# and tokens came several at a time: cheaper for each, and no measure.
_WELL_FED = 0.97


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run; None where there is only one core."""

    proxy: int | None
    rest: int | None

    @classmethod
    def here(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1]) if len(usable) > 1 else cls(None, None)


@dataclass(frozen=True, slots=True)
class Bench:
    """A running fleet with its proxies."""

    nodes: Sequence[int]
    proxies: Sequence[Proxy]
    cores: Cores


def measure_first_token(bench: Bench, count: int) -> dict[str, object]:
    """Time to the first token of single calls, and what each proxy added."""
    _tell(f"first token of {count} single calls each")
    targets = {"direct": bench.nodes[0]}
    targets |= {proxy.name: proxy.port for proxy in bench.proxies}
    listed = ",".join(f"{name}={port}" for name, port in targets.items())
    with _load(bench, ["pairs", "--targets", listed, "--count", str(count)]) as load:
        result = _result(load)
    seconds = result["first_token_seconds"]
    direct = seconds["direct"]
    return {
        name: {
            "ms": _quantiles(seconds[name]),
            "added_ms": _quantiles(
                [one - other for one, other in zip(seconds[name], direct, strict=True)]
            ),
        }
        for name in targets
    }


def measure_streams(
    bench: Bench, proxy: Proxy | None, count: int, seconds: float
) -> dict[str, object]:
    """Run `count` streams through a proxy, or directly, for `seconds`."""
    _tell(f"{count} streams, {proxy.name if proxy else 'direct'}")
    ports = [proxy.port] if proxy else bench.nodes
    argv = ["streams", "--ports", ",".join(map(str, ports))]
    argv += ["--streams", str(count), "--seconds", str(seconds)]
    with _load(bench, argv) as load:
        assert load.stdout is not None
        if load.stdout.readline().strip() != "begin":
            raise MissingError("the load generator ended early")
        before = proxy.cpu_seconds() if proxy else 0.0
        if load.stdout.readline().strip() != "end":
            raise MissingError("the load generator ended early")
        cpu_seconds = proxy.cpu_seconds() - before if proxy else 0.0
        memory = proxy.memory_bytes() if proxy else 0
        result = _result(load)
    # Each reply's last line carries its timings and no token.
    tokens = result["lines"] * TOKENS / (TOKENS + 1)
    wanted = count * TOKENS_PER_SECOND * result["seconds"]
    return {
        "cpu_us_per_token": cpu_seconds / max(1, tokens) * 1e6,
        "cpu_cores": cpu_seconds / result["seconds"],
        "memory_mib": memory / 2**20,
        "tokens_per_second": tokens / result["seconds"],
        "fed": tokens / wanted,
        "faults": result["faults"],
        "first_fault": result["first_fault"],
        "first_token_ms": _quantiles(result["first_token_seconds"]),
    }


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, object]:
    """Measure everything, the proxies in turns, the medians of their rounds kept."""
    report: dict[str, object] = {
        "machine": f"{os.cpu_count()} cores, {platform.platform()}",
        "load_average": os.getloadavg()[0],
        "idle_cores": {p.name: _idle_cores(p, args.seconds) for p in bench.proxies},
        "first_token": measure_first_token(bench, args.pairs),
    }
    by_count: dict[str, object] = {}
    for count in args.streams:
        runs: dict[str, list[dict[str, object]]] = {"direct": []}
        runs["direct"].append(measure_streams(bench, None, count, args.seconds))
        for turn in range(args.rounds):
            order = bench.proxies if turn % 2 == 0 else list(reversed(bench.proxies))
            for proxy in order:
                run = measure_streams(bench, proxy, count, args.seconds)
                runs.setdefault(proxy.name, []).append(run)
        by_count[str(count)] = runs
    return {**report, "streams": by_count}


def _idle_cores(proxy: Proxy, seconds: float) -> float:
    """CPU that a proxy takes while nothing is asked of it: polls and passes."""
    _tell(f"{proxy.name}, idle")
    before = proxy.cpu_seconds()
    time.sleep(seconds)
    return (proxy.cpu_seconds() - before) / seconds


def show(report: dict) -> str:
    """Write the report as a table, the ratios last."""
    rows = [
        f"{report['machine']}; load average at the start {report['load_average']:.1f}",
        "",
    ]
    rows += ["first token of a single call, paired with a direct one", _HEAD_FIRST]
    for name, each in report["first_token"].items():
        ms, added = each["ms"], each["added_ms"]
        rows.append(
            f"{name:<8}{ms['p50']:>9.2f}{ms['p99']:>9.2f}"
            f"{added['p50']:>12.3f}{added['p99']:>12.3f}"
        )
    rows += _ratio_rows(report["first_token"])
    for count, runs in report["streams"].items():
        rows += ["", f"{count} streams at once", _HEAD_STREAMS]
        rows += [_stream_row(name, runs[name]) for name in runs]
        if "router" in runs and "nginx" in runs:
            router, nginx = (
                _median(runs[name], "cpu_us_per_token") for name in ("router", "nginx")
            )
            rows.append(f"router / nginx, CPU per token: {router / nginx:.2f}")
        rows += _warnings(runs)
    idle = ", ".join(f"{n} {c:.3f}" for n, c in report["idle_cores"].items())
    return "\n".join([*rows, "", f"cores taken when idle: {idle}"])


_HEAD_FIRST = f"{'':<8}{'p50 ms':>9}{'p99 ms':>9}{'added p50':>12}{'added p99':>12}"
_HEAD_STREAMS = (
    f"{'':<8}{'CPU us/token':>13}{'runs':>16}{'cores':>7}{'MiB':>6}"
    f"{'tokens/s':>10}{'first p50 ms':>14}{'p99 ms':>9}"
)


def _ratio_rows(first_token: dict) -> list[str]:
    if not {"router", "nginx"} <= first_token.keys():
        return []
    router, nginx = (first_token[name]["added_ms"] for name in ("router", "nginx"))
    parts = [f"{q} {router[q] / nginx[q]:.1f}" for q in ("p50", "p99") if nginx[q] > 0]
    return [f"router / nginx, added time: {', '.join(parts)}"]


def _stream_row(name: str, runs: list[dict]) -> str:
    cpu = sorted(run["cpu_us_per_token"] for run in runs)
    spread = f"{cpu[0]:.1f} to {cpu[-1]:.1f}"
    shown = f"{statistics.median(cpu):>13.1f}{spread:>16}"
    if name == "direct":
        shown = f"{'':>29}"
    first = runs[0]["first_token_ms"]
    rate = _median(runs, "tokens_per_second")
    return (
        f"{name:<8}{shown}{_median(runs, 'cpu_cores'):>7.2f}"
        f"{_median(runs, 'memory_mib'):>6.0f}{rate:>10.0f}"
        f"{first['p50']:>14.2f}{first['p99']:>9.2f}"
    )


def _warnings(runs: dict[str, list[dict]]) -> Iterator[str]:
    for name, each in runs.items():
        if min(run["fed"] for run in each) < _WELL_FED:
            yield f"note: {name} passed on fewer tokens than the fleet makes"
        faults = sum(run["faults"] for run in each)
        if faults:
            fault = next(run["first_fault"] for run in each if run["faults"])
            yield f"note: {name} had {faults} faulty replies, first: {fault}"


def _median(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {"p50": float("nan"), "p99": float("nan")}
    ordered = sorted(seconds)
    return {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


def _tell(step: str) -> None:
    print(f"bench.overhead: {step}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _load(bench: Bench, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    with on_core(bench.cores.rest):
        child = subprocess.Popen(
            [sys.executable, "-m", "bench.load", *argv],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    watchdog = threading.Timer(_LONGEST_RUN_SECONDS, child.kill)
    watchdog.start()
    try:
        yield child
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()


def _result(load: subprocess.Popen[str]) -> dict:
    assert load.stdout is not None
    line = load.stdout.readline()
    if not line:
        raise MissingError("the load generator ended early")
    return json.loads(line)


@contextlib.contextmanager
def started(args: argparse.Namespace) -> Iterator[Bench]:
    """Start fleet and proxies, and end them for sure."""
    cores = Cores.here()
    ports = free_ports(NODES + 2)
    nodes = ports[:NODES]
    slots = max(args.streams) // NODES + 1
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with on_core(cores.rest):
            stack.enter_context(_fleet(folder, nodes))
        # nginx shuns a node for 10 s that once did not answer.
        for node in nodes:
            until(partial(_listens, node), f"the simulated node at {node} listens")
        proxies = []
        with on_core(cores.proxy):
            if "nginx" in args.proxies:
                proxies.append(start_nginx(folder, ports[-2], nodes))
                stack.callback(proxies[-1].process.stop)
            if "router" in args.proxies:
                proxies.append(start_router(folder, ports[-1], nodes, slots))
                stack.callback(proxies[-1].process.stop)
        yield Bench(nodes, proxies, cores)


def _fleet(folder: Path, nodes: Sequence[int]) -> Process:
    argv = [sys.executable, "-m", "bench.simulated_fleet"]
    argv += ["--ports", ",".join(map(str, nodes))]
    argv += ["--tokens-per-second", str(TOKENS_PER_SECOND)]
    return Process(argv, log=folder / "fleet.log")


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    parser = argparse.ArgumentParser(description="what the router costs beside nginx")
    parser.add_argument("--streams", type=int, nargs="+", default=[50, 300])
    parser.add_argument("--seconds", type=float, default=10, help="of each stream run")
    parser.add_argument("--rounds", type=int, default=3, help="stream runs of each")
    parser.add_argument("--pairs", type=int, default=500, help="single calls of each")
    parser.add_argument(
        "--proxies", nargs="+", choices=["nginx", "router"], default=["nginx", "router"]
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    try:
        with started(args) as bench:
            report = measure(bench, args)
    except MissingError as error:
        sys.exit(f"bench.overhead: {error}")
    print(show(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
