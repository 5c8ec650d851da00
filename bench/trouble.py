"""What ordinary trouble costs the clients of a fleet, through one proxy or another.

Three real Ollamas, each behind a server that plays a node's troubles
(`bench.troubled_node`); real HTTP clients, half of whose requests are streams; the
router, olla and nginx in turns, each as it is shipped, and nginx once more as one sets
it for failing nodes. Each trouble finds a new proxy that has served for two seconds.

* failed: requests that got no whole and right answer within a minute; of a crashing
  request, those of the others;
* attempts, contained: answers that nodes in trouble did not give, and when the last of
  them was over; `no`: they still went there at the end;
* back: from the trouble's end to the first answer from that node;
* lost: tokens that nodes generated and no client got, of all;
* p50, p95: of good answers while the trouble lasted.

    python -m bench.trouble --out trouble.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.figures import table
from bench.proxies import MissingError
from bench.stage import machine, tell
from bench.troubled_clients import Clients
from bench.troubled_fleet import PROXIES, Fleet, proxied
from bench.troubled_node import Asked, TroubledNode
from bench.troubles import TROUBLES, Trouble
from tests.harness.ollama import ollama_binary

_BACK_SECONDS = 30.0
_LAST = 0.75  # of the trouble: failures after that were not contained
_FEW = 5


def measure(fleet: Fleet, name: str, trouble: Trouble) -> dict[str, Any]:
    """Run one trouble through one proxy."""
    fleet.warm(trouble.body(0)["model"])
    with proxied(name, fleet.ports) as proxy:
        clients = Clients(f"http://127.0.0.1:{proxy.port}{proxy.path}", trouble)
        if trouble.before:
            clients.start()
            clients.wait(trouble.before)
        began = time.monotonic()
        end = trouble.begin(fleet.nodes)
        if not trouble.before:
            clients.start()
        if trouble.poisoned:
            clients.poison(trouble.seconds)
        else:
            clients.wait(trouble.seconds)
        if callable(end):
            end()
        over = time.monotonic()
        for node in fleet.nodes:
            node.well()
        back = _back(fleet.nodes[0], over) if trouble.returns else None
        clients.stop()
    return _figures(fleet, clients, (began, over), back)


def _back(node: TroubledNode, over: float) -> float:
    """Wait for a good answer that was asked for after the trouble; inf: none came."""
    while time.monotonic() - over < _BACK_SECONDS:
        for each in list(node.asked):
            if each.at >= over and each.ended_at and not each.failed and each.tokens:
                return each.ended_at - over
        time.sleep(0.02)
    return float("inf")


def _figures(
    fleet: Fleet,
    clients: Clients,
    span: tuple[float, float],
    back: float | None,
) -> dict[str, Any]:
    began, over = span
    asked = [each for node in fleet.nodes for each in node.asked]
    failed = [each for each in asked if each.failed and each.at >= began - 1]
    bad = [each for each in clients.answers if each.why]
    good = [each for each in clients.answers if not each.why]
    tokens = sum(each.tokens for each in asked)
    got = sum(each.tokens for each in good)
    seconds = sorted(e.ended - e.began for e in good if began <= e.began < over)
    return {
        "requests": len(clients.answers),
        "failed": len(bad),
        "why": sorted({each.why for each in bad}),
        "attempts": len(failed),
        "contained_seconds": _contained(failed, began, over),
        "back_seconds": back,
        "lost_tokens": max(0, tokens - got),
        "tokens": tokens,
        "p50_seconds": median(seconds) if seconds else None,
        "p95_seconds": seconds[int(0.95 * len(seconds))] if seconds else None,
        "loads": sum(each.load_seconds > 0.15 for each in asked),
        "crashes": sum(node.crashes for node in fleet.nodes),
        "load_average": os.getloadavg()[0],
    }


def _contained(failed: Sequence[Asked], began: float, over: float) -> float:
    """Return when the last failed attempt was over; inf where they went on."""
    if not failed:
        return 0.0
    last = max(each.at for each in failed)
    if len(failed) > _FEW and last - began > _LAST * (over - began):
        return float("inf")
    return max(0.0, min(max(each.ended_at or over for each in failed), over) - began)


HEAD = [
    *("trouble", "through", "requests", "failed", "attempts", "contained"),
    *("back", "lost", "p50", "p95"),
]


def rows(report: dict[str, Any]) -> list[list[str]]:
    """Return the table's rows; of several rounds the ranges."""
    return [
        [trouble, name, *cells(runs)]
        for trouble, proxies in report["troubles"].items()
        for name, runs in proxies.items()
    ]


def cells(runs: Sequence[dict[str, Any]]) -> list[str]:
    lost = [100 * run["lost_tokens"] / max(1, run["tokens"]) for run in runs]
    return [
        spread([run["requests"] for run in runs], "{:.0f}"),
        spread([run["failed"] for run in runs], "{:.0f}"),
        spread([run["attempts"] for run in runs], "{:.0f}"),
        spread([run["contained_seconds"] for run in runs], "{:.1f} s"),
        spread([run["back_seconds"] for run in runs], "{:.1f} s"),
        spread(lost, "{:.0f} %"),
        *(
            spread([run[f"{each}_seconds"] for run in runs], "{:.1f} s")
            for each in ("p50", "p95")
        ),
    ]


def spread(values: Sequence[float | None], form: str) -> str:
    """Write a range; what never came is `no`, what cannot be is `-`."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    ends = [
        "no" if value == float("inf") else form.format(value)
        for value in (min(known), max(known))
    ]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def show(report: dict[str, Any]) -> str:
    """Write the report as text."""
    began, ended = report["load_average"], report["load_average_at_end"]
    lines = [
        report["machine"],
        f"begun at {report['begun_at']}, load average {began:.1f} to {ended:.1f}",
        *(f"left out: {each}" for each in report["missing"]),
        "",
        *table(HEAD, rows(report)),
    ]
    for trouble, proxies in report["troubles"].items():
        for name, runs in proxies.items():
            why = sorted({each for run in runs for each in run["why"]})
            notes = [f"failed by {', '.join(why)}"] if why else []
            for each in ("loads", "crashes"):
                if any(run[each] for run in runs):
                    number = spread([run[each] for run in runs], "{:.0f}")
                    notes.append(f"{each}: {number}")
            if notes:
                lines.append(f"{trouble}, {name}: {'; '.join(notes)}")
    return "\n".join(lines)


def markdown(report: dict[str, Any]) -> str:
    """Write the table as the docs have it."""
    lines = [HEAD, ["---"] * len(HEAD), *rows(report)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    parser = argparse.ArgumentParser(description="what ordinary trouble costs clients")
    names = [each.name for each in TROUBLES]
    parser.add_argument("--proxies", nargs="+", choices=PROXIES, default=PROXIES)
    parser.add_argument("--troubles", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="write the table for the docs")
    args = parser.parse_args(argv)
    if ollama_binary() is None:
        sys.exit("bench.trouble: no ollama on PATH")
    report = run(args)
    print(show(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")
    if args.markdown:
        args.markdown.write_text(markdown(report) + "\n")


def run(args: argparse.Namespace) -> dict[str, Any]:
    chosen = [each for each in TROUBLES if each.name in args.troubles]
    report: dict[str, Any] = {
        "machine": machine(),
        "begun_at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "load_average": os.getloadavg()[0],
        "missing": [],
        "troubles": {each.name: {} for each in chosen},
    }
    with tempfile.TemporaryDirectory() as made:
        for one_model in sorted({each.one_model for each in chosen}):
            fleet = Fleet(Path(made), one_model=one_model)
            with contextlib.closing(fleet):
                of_it = [each for each in chosen if each.one_model == one_model]
                _rounds(fleet, of_it, args, report)
    report["load_average_at_end"] = os.getloadavg()[0]
    return report


def _rounds(
    fleet: Fleet,
    troubles: Sequence[Trouble],
    args: argparse.Namespace,
    report: dict[str, Any],
) -> None:
    missing: dict[str, str] = {}
    for turn in range(args.rounds):
        for trouble in troubles:
            for name in args.proxies if turn % 2 == 0 else reversed(args.proxies):
                if name in missing:
                    continue
                tell(f"{trouble.name}, {name}")
                try:
                    figures = measure(fleet, name, trouble)
                except MissingError as error:
                    missing[name] = str(error)
                    report["missing"].append(f"{name}: {error}")
                    continue
                tell(json.dumps(figures))
                runs = report["troubles"][trouble.name]
                runs.setdefault(name, []).append(figures)


if __name__ == "__main__":
    main()
