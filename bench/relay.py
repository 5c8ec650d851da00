"""What passing replies on costs: nginx, the router, olla and LiteLLM side by side.

In one run, over one simulated fleet, the proxies in turns, round by round:

* streams, 1, 50 and 300 at once: CPU time of each relayed token (user and system,
  of all of the proxy's processes), time to the first token, gaps between tokens,
  memory; `direct` is the fleet without a proxy, and so the noise of this machine;
* single calls, paired with direct ones: what each proxy adds to the first token;
* whole replies, as many as it can on its one core.

The router runs as it is shipped: failover armed, metrics on, a log line for each
request. nginx and olla write a line for each request as well. olla holds at most
50 connections to a node; LiteLLM is saturated by 20 streams, and gets no more.
What is not installed is left out, and said. Nothing is asserted.

    python -m bench.relay --out relay.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.figures import median, spread, table, values
from bench.proxies import MissingError, Proxy
from bench.stage import PROXIES, Bench, machine, started
from bench.streams import idle_cores, measure_first_token, measure_streams, notes
from bench.whole import CONNECTIONS, generator, measure_whole

Runs = dict[str, list[dict]]


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, object]:
    report: dict[str, object] = {
        "machine": machine(),
        "begun_at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "load_average": os.getloadavg()[0],
        "missing": list(bench.missing),
        "idle_cores": {p.name: idle_cores(p, args.seconds) for p in bench.proxies},
        "first_token": measure_first_token(bench, args.pairs),
    }
    report["generator"] = generator()
    report["whole"] = rounds(
        bench, args.rounds, lambda proxy: measure_whole(bench, proxy, args.seconds)
    )
    streams: dict[str, Runs] = {}
    for count in args.streams:
        direct = measure_streams(bench, None, count, args.seconds)

        def run(proxy: Proxy, count: int = count) -> dict[str, object]:
            return measure_streams(bench, proxy, count, args.seconds)

        streams[str(count)] = {"direct": [direct], **rounds(bench, args.rounds, run)}
    report["streams"] = streams
    return {**report, "load_average_at_end": os.getloadavg()[0]}


def rounds(
    bench: Bench, rounds: int, run: Callable[[Proxy], dict[str, object]]
) -> Runs:
    """Run every proxy once a round, there and back again."""
    runs: Runs = {proxy.name: [] for proxy in bench.proxies}
    for turn in range(rounds):
        for proxy in bench.proxies if turn % 2 == 0 else reversed(bench.proxies):
            runs[proxy.name].append(run(proxy))
    return runs


def show(report: dict) -> str:
    """Write the report as tables: medians, ranges in brackets."""
    rows = [
        report["machine"],
        f"begun at {report['begun_at']}",
        "load average {load_average:.1f}, at the end {load_average_at_end:.1f}".format(
            **report
        ),
        *(f"left out: {each}" for each in report["missing"]),
        "",
        "first token of a single call, ms; added to a direct one of the same round",
        *_first_rows(report["first_token"]),
    ]
    for count, runs in report["streams"].items():
        rows += ["", f"{count} streams at once", *_stream_rows(runs), *notes(runs)]
    rows += ["", *_whole_head(report), *_whole_rows(report["whole"])]
    rows += ["", "ratios, of the same round", *_ratio_rows(report)]
    idle = ", ".join(f"{n} {c:.3f}" for n, c in report["idle_cores"].items())
    return "\n".join([*rows, "", f"cores taken when idle: {idle}"])


def _first_rows(first_token: dict) -> list[str]:
    rows = [
        [name]
        + [f"{each[key][q]:.2f}" for key in ("ms", "added_ms") for q in ("p50", "p99")]
        for name, each in first_token.items()
    ]
    return table(["", "p50", "p99", "added p50", "added p99"], rows)


def _stream_rows(runs: Runs) -> list[str]:
    head = ["", "streams", "CPU us/token", "cores", "MiB", "tokens/s"]
    head += ["first ms p50", "p99", "gap ms p99", "largest"]
    rows = []
    for name, each in runs.items():
        cpu = spread(values(each, "cpu_us_per_token")) if name != "direct" else ""
        rows.append(
            [name, f"{median(each, 'streams'):.0f}", cpu]
            + [f"{median(each, 'cpu_cores'):.2f}", f"{median(each, 'memory_mib'):.0f}"]
            + [f"{median(each, 'tokens_per_second'):.0f}"]
            + [f"{median(each, 'first_token_ms', q):.1f}" for q in ("p50", "p99")]
            + [f"{median(each, 'gap_ms', q):.1f}" for q in ("p99", "largest")]
        )
    return table(head, rows)


def _whole_head(report: dict) -> list[str]:
    asked = f"asked by {report['generator']}, {CONNECTIONS} connections"
    return [f"whole replies, one core for the proxy, {asked}"]


def _whole_rows(whole: Runs) -> Iterator[str]:
    rows = [
        [
            name,
            spread(values(each, "requests_per_second"), ".0f"),
            spread(values(each, "cpu_us_per_request"), ".0f"),
            f"{1e6 / median(each, 'cpu_us_per_request'):.0f}",
            f"{median(each, 'cpu_cores'):.2f}",
            f"{median(each, 'memory_mib'):.0f}",
            f"{sum(values(each, 'faults')):.0f}",
        ]
        for name, each in whole.items()
    ]
    head = [
        "",
        "requests/s",
        "CPU us/request",
        "requests/CPU s",
        "cores",
        "MiB",
        "faults",
    ]
    yield from table(head, rows)
    for name, each in whole.items():
        if not all(run["core_full"] for run in each):
            yield f"note: {name} was not full: generator or fleet was the limit"
        if any(run["faults"] for run in each):
            yield f"note: {name} had faulty replies: its figures count for nothing"


def _ratio_rows(report: dict) -> list[str]:
    """Compare the router with the others, each round with its own."""
    measured: list[tuple[str, Runs, str]] = [
        (f"CPU per token, {count} streams", runs, "cpu_us_per_token")
        for count, runs in report["streams"].items()
    ]
    measured.append(("CPU per whole reply", report["whole"], "cpu_us_per_request"))
    pairs = [("router", "nginx"), ("router", "olla"), ("litellm", "router")]
    rows = [
        [what, *(ratio(runs, one, other, key) for one, other in pairs)]
        for what, runs, key in measured
    ]
    return table(["", *(f"{one} / {other}" for one, other in pairs)], rows)


def ratio(runs: Runs, one: str, other: str, key: str) -> str:
    if not (runs.get(one) and runs.get(other)):
        return "-"
    ratios = [
        a / b
        for a, b in zip(values(runs[one], key), values(runs[other], key), strict=True)
        if b
    ]
    return spread(ratios, ".2f") if ratios else "-"


def main(argv: Sequence[str] | None = None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    parser = argparse.ArgumentParser(description="what passing replies on costs")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 50, 300])
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--pairs", type=int, default=300, help="single calls of each")
    parser.add_argument("--proxies", nargs="+", choices=PROXIES, default=PROXIES)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    try:
        with started(args.proxies, max(args.streams), required=False) as bench:
            report = measure(bench, args)
    except MissingError as error:
        sys.exit(f"bench.relay: {error}")
    print(show(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
