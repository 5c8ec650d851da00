"""What keys and limits cost: the router with them beside itself without, in turns.

Both count usage: that cannot be turned off. The key comes in the path, since the load
generators send no header of ours; it has a limit of every kind that requests and tokens
have, and so have its tag and everybody. None is ever reached.

    python -m bench.keyed --rounds 8
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.figures import spread, table, values
from bench.proxies import Proxy, on_core, start_router
from bench.relay import ratio, rounds
from bench.stage import NODES, Bench, Cores, machine, running_fleet
from bench.streams import measure_first_token, measure_streams, notes
from bench.whole import measure_whole
from tests.harness.ports import free_ports

_KEY = "sk-inferops-bench-" + "0" * 32
_MOST = 10**9  # a limit that is never reached
_LIMITS = {
    **{f"requests_per_{span}": _MOST for span in ("minute", "day", "month")},
    **{f"tokens_per_{span}": _MOST for span in ("minute", "day", "month")},
    "concurrent_requests": 100_000,
}


@contextlib.contextmanager
def routers(most_streams: int) -> Iterator[Bench]:
    """Start a fleet and the router twice."""
    cores = Cores.here()
    *nodes, bare, keyed = free_ports(NODES + 2)
    slots = most_streams // NODES + 1
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(running_fleet(nodes, cores))
        proxies = []
        for name, port, settings in (
            ("without", bare, {}),
            ("with keys", keyed, {"ACCESS__KEYS_FILE": str(_keys(folder))}),
        ):
            (folder / name).mkdir()
            with on_core(cores.proxy):
                proxies.append(
                    start_router(
                        folder / name, port, nodes, slots, name=name, settings=settings
                    )
                )
            stack.callback(proxies[-1].process.stop)
        proxies[1] = replace(proxies[1], path=f"/key/{_KEY}/api/chat")
        yield Bench(nodes, proxies, cores)


def _keys(folder: Path) -> Path:
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    key = {"name": "bench", "sha256": digest, "tags": ["t"], "limits": _LIMITS}
    limits = {"everyone": _LIMITS, "tags": {"t": _LIMITS}}
    path = folder / "keys.yml"
    path.write_text(json.dumps({"keys": [key], "limits": limits}))  # JSON is YAML
    return path


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, object]:
    def streams(proxy: Proxy) -> dict[str, object]:
        return measure_streams(bench, proxy, args.streams, args.seconds)

    return {
        "machine": machine(),
        "begun_at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "load_average": os.getloadavg()[0],
        "first_token": measure_first_token(bench, args.pairs),
        "whole": rounds(
            bench, args.rounds, lambda proxy: measure_whole(bench, proxy, args.seconds)
        ),
        "streams": rounds(bench, args.rounds, streams),
        "load_average_at_end": os.getloadavg()[0],
    }


_FIGURES = (
    ("streams", "cpu_us_per_token", "CPU us/token", ".1f"),
    ("whole", "requests_per_second", "whole replies/s", ".0f"),
    ("whole", "cpu_us_per_request", "CPU us/whole reply", ".0f"),
)


def show(report: dict) -> str:
    """Write the report as a table: medians, ranges in brackets."""
    rows = []
    for part, key, what, form in _FIGURES:
        runs = report[part]
        both = [spread(values(runs[n], key), form) for n in ("without", "with keys")]
        rows.append([what, *both, ratio(runs, "with keys", "without", key)])
    first = report["first_token"]
    for quantile in ("p50", "p99"):
        bare, keyed = (
            first[name]["added_ms"][quantile] for name in ("without", "with keys")
        )
        what = f"added to first token, ms, {quantile}"
        rows.append([what, f"{bare:.2f}", f"{keyed:.2f}", f"{keyed - bare:+.2f} ms"])
    faults = sum(
        sum(values(runs, "faults"))
        for part in ("whole", "streams")
        for runs in report[part].values()
    )
    loads = f"{report['load_average']:.1f} to {report['load_average_at_end']:.1f}"
    head = [
        f"{report['machine']}, {report['begun_at']}",
        f"load average {loads}; faults {faults:.0f}",
    ]
    columns = ["", "without", "with keys and limits", "ratio, of the same round"]
    return "\n".join([*head, *table(columns, rows), *notes(report["streams"])])


def main(argv: Sequence[str] | None = None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    parser = argparse.ArgumentParser(description="what keys and limits cost")
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--rounds", type=int, default=8, help="runs of each")
    parser.add_argument("--pairs", type=int, default=300, help="single calls of each")
    args = parser.parse_args(argv)
    with routers(args.streams) as bench:
        print(show(measure(bench, args)))


if __name__ == "__main__":
    main()
