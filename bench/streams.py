"""Measures one proxy under streams: first tokens, CPU per token, gaps, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figures import quantiles
from bench.proxies import Proxy
from bench.stage import (
    TOKENS_PER_SECOND,
    Bench,
    line_of,
    load,
    own_load,
    result_of,
    tell,
)

# Below this share of the tokens that the fleet wants to send, something was full,
# and tokens came several at a time: cheaper for each, and no measure.
_WELL_FED = 0.97


def measure_first_token(
    bench: Bench, count: int, at_once: int = 1
) -> dict[str, object]:
    """Time to the first token of calls, and what each proxy added."""
    tell(f"first token of {count} calls each, {at_once} at once")
    targets = {"direct": f"{bench.nodes[0]}/api/chat"}
    targets |= {proxy.name: f"{proxy.port}{proxy.path}" for proxy in bench.proxies}
    listed = ",".join(f"{name}={target}" for name, target in targets.items())
    numbers = ("--count", str(count // at_once), "--at-once", str(at_once))
    with load(bench, own_load("pairs", "--targets", listed, *numbers)) as c:
        seconds = result_of(c)["first_token_seconds"]
    direct = seconds["direct"]
    return {
        name: {
            "ms": quantiles(seconds[name]),
            "added_ms": quantiles(
                [one - other for one, other in zip(seconds[name], direct, strict=True)]
            ),
        }
        for name in targets
    }


def measure_streams(
    bench: Bench, proxy: Proxy | None, count: int, seconds: float
) -> dict[str, object]:
    """Run `count` streams through a proxy, or directly, for `seconds`."""
    if proxy and proxy.most_streams:
        count = min(count, proxy.most_streams)
    tell(f"{count} streams, {proxy.name if proxy else 'direct'}")
    targets = [f"{node}/api/chat" for node in bench.nodes]
    if proxy:
        targets = [f"{proxy.port}{proxy.path}"]
    argv = own_load("streams", "--targets", ",".join(targets))
    argv += ["--streams", str(count), "--seconds", str(seconds)]
    with load(bench, argv) as child:
        line_of(child)  # begin
        before = proxy.cpu_seconds() if proxy else 0.0
        line_of(child)  # end
        cpu_seconds = proxy.cpu_seconds() - before if proxy else 0.0
        memory = proxy.memory_bytes() if proxy else 0
        result = result_of(child)
    tokens, elapsed = result["tokens"], result["seconds"]
    return {
        "streams": count,
        "cpu_us_per_token": cpu_seconds / max(1, tokens) * 1e6,
        "cpu_cores": cpu_seconds / elapsed,
        "memory_mib": memory / 2**20,
        "tokens_per_second": tokens / elapsed,
        "fed": tokens / (count * TOKENS_PER_SECOND * elapsed),
        "faults": result["faults"],
        "first_fault": result["first_fault"],
        "first_token_ms": result["first_token_ms"],
        "gap_ms": result["gap_ms"],
    }


def idle_cores(proxy: Proxy, seconds: float) -> float:
    """CPU that a proxy takes while nothing is asked of it: polls and passes."""
    tell(f"{proxy.name}, idle")
    before = proxy.cpu_seconds()
    time.sleep(seconds)
    return (proxy.cpu_seconds() - before) / seconds


def notes(runs: dict[str, list[dict]]) -> Iterator[str]:
    """Say what makes a proxy's figures doubtful."""
    for name, each in runs.items():
        if min(run["fed"] for run in each) < _WELL_FED:
            yield f"note: {name} passed on fewer tokens than the fleet makes"
        faults = sum(run["faults"] for run in each)
        if faults:
            fault = next(run["first_fault"] for run in each if run["faults"])
            yield f"note: {name} had {faults} faulty replies, first: {fault}"
