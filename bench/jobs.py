"""What a running job costs: streams beside it, and the calls on a large one.

* the largest and the 99th percentile gap between tokens of people's streams,
  without a job and with one whose items are answered at once: no job can press
  harder on the event loop, on its database thread and on the disk;
* a job of 100,000 items: its upload, each kind of call while it runs, and the
  router's memory.

    python -m bench.jobs --streams 100 --seconds 10 --items 100000
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from bench.figures import table
from bench.proxies import Proxy
from bench.simulated_fleet import MODEL
from bench.stage import Bench, machine, started, tell
from bench.streams import measure_streams

_CALLS = 40
_SLOTS = 32  # beyond those of the streams: what is idle


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    (router,) = bench.proxies
    url = f"http://127.0.0.1:{router.port}"
    report: dict[str, Any] = {"machine": machine()}
    streams = []
    for _ in range(args.rounds):
        alone = measure_streams(bench, router, args.streams, args.seconds)
        name = begin(url, args.items)
        wait_running(url, name)
        before = done(url, name)
        beside = measure_streams(bench, router, args.streams, args.seconds)
        rate = (done(url, name) - before) / args.seconds
        requests.post(f"{url}/v1/jobs/{name}/cancel", timeout=60)
        wait_over(url, name)
        streams.append({"alone": alone, "beside": beside, "items_per_second": rate})
    report["streams"] = streams
    report["large"] = measure_large(router, url, args.items)
    return report


def measure_large(router: Proxy, url: str, items: int) -> dict[str, Any]:
    """Time the calls on a job of so many items, while it is read and while it runs."""
    tell(f"calls on a job of {items} items")
    before = router.memory_bytes()
    began = time.monotonic()
    name = begin(url, items)
    created = time.monotonic() - began
    calls = _calls(url, name)
    reading = {what: timed(call) for what, call in calls.items()}
    wait_running(url, name)
    read = time.monotonic() - began
    running = {what: timed(call) for what, call in calls.items()}
    memory = router.memory_bytes()
    wait_over(url, name)
    whole = time.monotonic() - began
    assert done(url, name) == items
    over = {what: timed(call) for what, call in calls.items()}
    began = time.monotonic()
    answer = requests.get(f"{url}/v1/jobs/{name}/results", stream=True, timeout=600)
    size = sum(len(piece) for piece in answer.iter_content(1 << 20))
    return {
        "created_seconds": created,
        "read_seconds": read,
        "done_seconds": whole,
        "items_per_second": items / (whole - read),
        "ms_while_read": reading,
        "ms_while_running": running,
        "ms_when_over": over,
        "download_bytes": size,
        "download_seconds": time.monotonic() - began,
        "memory_mib": memory / 2**20,
        "memory_after_mib": router.memory_bytes() / 2**20,
        "memory_before_mib": before / 2**20,
    }


def _calls(url: str, name: str) -> dict[str, Callable[[], requests.Response]]:
    with requests.Session() as session:
        return {
            "job": lambda: session.get(f"{url}/v1/jobs/{name}", timeout=60),
            "list": lambda: session.get(f"{url}/v1/jobs?limit=100", timeout=60),
            "batch": lambda: session.get(f"{url}/v1/batches/{name}", timeout=60),
            "files": lambda: session.get(f"{url}/v1/files?limit=100", timeout=60),
            "results": lambda: session.get(
                f"{url}/v1/jobs/{name}/results?after=5000&limit=100", timeout=60
            ),
            "metrics": lambda: session.get(f"{url}/metrics", timeout=60),
            "upload": lambda: session.post(
                f"{url}/v1/files",
                files={"file": ("a", b"x" * 1000)},
                data={"purpose": "batch"},
                timeout=60,
            ),
        }


def timed(call: Callable[[], requests.Response]) -> dict[str, float]:
    """Return the median and the largest of many calls, in milliseconds."""
    seconds = []
    for _ in range(_CALLS):
        began = time.monotonic()
        assert call().ok
        seconds.append(time.monotonic() - began)
    return {"p50": statistics.median(seconds) * 1000, "largest": max(seconds) * 1000}


def begin(url: str, items: int) -> str:
    """Upload rows and make a job of them; returns its id."""
    rows = "".join(f"{n},What is {n} times seven?\n" for n in range(items))
    answer = requests.post(
        f"{url}/v1/jobs",
        files={"file": ("rows.csv", f"id,text\n{rows}")},
        data={
            "model": MODEL,
            "template": "{{ text }}",
            "options": '{"num_predict": 20}',
            "preemption": "after_item",  # beside people on every node
        },
        timeout=600,
    )
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["id"]
    return name


def job(url: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{url}/v1/jobs/{name}", timeout=60).json()
    return found


def done(url: str, name: str) -> int:
    count: int = job(url, name)["progress"]["items"]["done"]
    return count


def wait_running(url: str, name: str) -> None:
    while job(url, name)["state"] == "validating":
        time.sleep(0.05)


def wait_over(url: str, name: str) -> None:
    while job(url, name)["state"] not in {"completed", "cancelled"}:
        time.sleep(0.2)


def show(report: dict[str, Any]) -> str:
    rows = [
        [
            what,
            *(
                f"{run[what]['gap_ms'][figure]:.0f}"
                for run in report["streams"]
                for figure in ("p99", "largest")
            ),
        ]
        for what in ("alone", "beside")
    ]
    heads = [
        f"{f} {n + 1}" for n in range(len(report["streams"])) for f in ("p99", "max")
    ]
    large = report["large"]
    calls = [
        [
            what,
            *(
                f"{large[when][what][f]:.1f}"
                for when in _WHEN
                for f in ("p50", "largest")
            ),
        ]
        for what in large["ms_while_read"]
    ]
    rates = ", ".join(f"{run['items_per_second']:.0f}" for run in report["streams"])
    return "\n".join(
        [
            "gaps between tokens of people's streams, ms",
            *table(["", *heads], rows),
            f"items a second beside them: {rates}",
            "",
            "calls, ms: while the file is read, while the job runs, after",
            *table(
                ["", *(f"{w[3:]} {f}" for w in _WHEN for f in ("p50", "max"))], calls
            ),
            json.dumps({k: v for k, v in large.items() if not k.startswith("ms_")}),
        ]
    )


_WHEN = ("ms_while_read", "ms_while_running", "ms_when_over")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with started(["router"], args.streams + _SLOTS) as bench:
        report = measure(bench, args)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1))
    print(show(report))


if __name__ == "__main__":
    main()
