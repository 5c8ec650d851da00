"""What keys and limits cost: the router with them beside itself without, in turns.

It runs without them twice: what those two differ by says nothing of keys. All count
usage: that cannot be turned off. The key comes in the path, since the load generators
send no header of ours. With `usual` limits it has one of requests a minute and one of
tokens a day; with `all`, one of every kind that requests and tokens have, and so have
its tag and everybody: 21. None is ever reached.

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
_USUAL = {"requests_per_minute": _MOST, "tokens_per_day": _MOST}
_ALL = {
    **{f"requests_per_{span}": _MOST for span in ("minute", "day", "month")},
    **{f"tokens_per_{span}": _MOST for span in ("minute", "day", "month")},
    "concurrent_requests": 100_000,
}


@contextlib.contextmanager
def routers(most_streams: int) -> Iterator[Bench]:
    """Start a fleet and the router four times."""
    cores = Cores.here()
    *nodes, bare, again, usual, all_ = free_ports(NODES + 4)
    slots = most_streams // NODES + 1
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(running_fleet(nodes, cores))
        proxies = []
        for name, port, settings in (
            ("without", bare, {}),
            ("again", again, {}),
            ("usual", usual, _keys(folder, _USUAL)),
            ("all", all_, _keys(folder, _ALL, _ALL)),
        ):
            (folder / name).mkdir()
            with on_core(cores.proxy):
                proxies.append(
                    start_router(
                        folder / name, port, nodes, slots, name=name, settings=settings
                    )
                )
            stack.callback(proxies[-1].process.stop)
        keyed = [replace(each, path=f"/key/{_KEY}/api/chat") for each in proxies[2:]]
        yield Bench(nodes, [*proxies[:2], *keyed], cores)


def _keys(
    folder: Path, own: dict[str, int], others: dict[str, int] | None = None
) -> dict[str, str]:
    """Return settings of a key with limits of its `own`, and of its tag's and all's."""
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    key = {"name": "bench", "sha256": digest, "tags": ["t"], "limits": own}
    limits = {"everyone": others or {}, "tags": {"t": others or {}}}
    path = folder / f"keys-{len(own)}.yml"
    path.write_text(json.dumps({"keys": [key], "limits": limits}))  # JSON is YAML
    return {"ACCESS__KEYS_FILE": str(path)}


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, object]:
    def streams(proxy: Proxy) -> dict[str, object]:
        return measure_streams(bench, proxy, args.streams, args.seconds)

    return {
        "machine": machine(),
        "begun_at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "load_average": os.getloadavg()[0],
        "first_token": {
            count: measure_first_token(bench, args.calls, count) for count in _AT_ONCE
        },
        "whole": rounds(
            bench, args.rounds, lambda proxy: measure_whole(bench, proxy, args.seconds)
        ),
        "streams": rounds(bench, args.rounds, streams),
        "load_average_at_end": os.getloadavg()[0],
    }


_COMPARED = {"again": "without, again", "usual": "usual limits", "all": "all limits"}
_AT_ONCE = (1, 4, 16)
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
        rows.append([what, spread(values(runs["without"], key), form)])
        for name in _COMPARED:
            rows[-1] += [
                spread(values(runs[name], key), form),
                ratio(runs, name, "without", key),
            ]
    for count, first in report["first_token"].items():
        for quantile in ("p50", "p99"):
            added = {name: each["added_ms"][quantile] for name, each in first.items()}
            bare = added["without"]
            row = [f"added to first token, {count} at once, ms, {quantile}"]
            row.append(f"{bare:.2f}")
            for name in _COMPARED:
                row += [f"{added[name]:.2f}", f"{added[name] - bare:+.2f} ms"]
            rows.append(row)
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
    columns = ["", "without"]
    for name in _COMPARED.values():
        columns += [name, "beside without"]
    return "\n".join([*head, *table(columns, rows), *notes(report["streams"])])


def main(argv: Sequence[str] | None = None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    parser = argparse.ArgumentParser(description="what keys and limits cost")
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--rounds", type=int, default=8, help="runs of each")
    parser.add_argument("--calls", type=int, default=800, help="for the first token")
    args = parser.parse_args(argv)
    with routers(args.streams) as bench:
        print(show(measure(bench, args)))


if __name__ == "__main__":
    main()
