"""What the router costs beside nginx, over one simulated fleet in one run.

* added time to the first token: direct, nginx and router are called in random
  order, round by round, one call at a time; the difference to the direct call of
  the same round is what was added;
* CPU time per relayed token, user and system, of all of a proxy's processes,
  while many streams run; the proxies take turns.

Nothing is asserted: the figures are printed, and written to --out. `bench.relay`
measures more, beside more proxies.

    python -m bench.overhead --streams 50 300 --seconds 10 --out overhead.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
from pathlib import Path

from bench.figures import median
from bench.proxies import MissingError
from bench.stage import Bench, machine, started
from bench.streams import idle_cores, measure_first_token, measure_streams, notes


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, object]:
    """Measure everything, the proxies in turns, the medians of their rounds kept."""
    report: dict[str, object] = {
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "idle_cores": {p.name: idle_cores(p, args.seconds) for p in bench.proxies},
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
                median(runs[name], "cpu_us_per_token") for name in ("router", "nginx")
            )
            rows.append(f"router / nginx, CPU per token: {router / nginx:.2f}")
        rows += notes(runs)
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
    rate = median(runs, "tokens_per_second")
    return (
        f"{name:<8}{shown}{median(runs, 'cpu_cores'):>7.2f}"
        f"{median(runs, 'memory_mib'):>6.0f}{rate:>10.0f}"
        f"{first['p50']:>14.2f}{first['p99']:>9.2f}"
    )


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
        with started(args.proxies, max(args.streams)) as bench:
            report = measure(bench, args)
    except MissingError as error:
        sys.exit(f"bench.overhead: {error}")
    print(show(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
