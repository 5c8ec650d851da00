"""From a fault to no new work on its node, step by step, under streaming load.

The simulated node shows a fault in its metrics at once; a real dcgm-exporter does at
its next collection (`--collect-interval`: 1 s as we run it, 30 s by its default).
"""

from __future__ import annotations

import statistics
import time
from datetime import datetime

import pytest
import requests

from tests.chaos.stage import (
    MODEL,
    NAMES,
    PROBE_INTERVAL_SECONDS,
    PROBE_TIMEOUT_SECONDS,
)
from tests.harness.poll import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.long]

SCRAPE_SECONDS = RULE_SECONDS = 1.0
REQUEST = {"model": MODEL, "prompt": "count: 101", "options": {"num_predict": 3}}


def shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def test_refused_connection(stage, tell):
    """The request that finds nobody moves on, and the node is out by then."""
    for name in NAMES:
        if name not in {"gamma", "delta"}:
            assert stage.product.admin("POST", f"nodes/{name}/cordon").ok
    times = []
    for _ in range(5):
        until(lambda: stage.serves("gamma", "delta"), "gamma serves", seconds=20)
        times.append(refuse(stage))
        stage.fleet.clear("gamma")
    usual = statistics.median(times)
    told = f"{shown(usual)} (worst {shown(max(times))})"
    tell("refused connection", "request sent to no new work, 5 times", told)
    assert usual < 0.05


def refuse(stage) -> float:
    """Give the seconds from the first request after the fault until gamma is out."""
    stage.fleet.put("gamma", "refuse", reset=True)
    sent = time.time()
    answer = requests.post(
        f"{stage.product.url}/api/generate", json=REQUEST, timeout=20
    )
    assert (answer.status_code, answer.headers["X-InferOps-Node"]) == (200, "delta")
    line = stage.history(node="gamma", kind="down", change="placed", limit=1)[0]
    return max(0.0, at(line) - sent)


def at(line) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()


def test_hang(stage, begin, tell):
    """Connections are taken and nothing is answered: two polls' limits bound it."""
    case = begin("a node that hangs")
    bound = PROBE_INTERVAL_SECONDS + 2 * PROBE_TIMEOUT_SECONDS
    case.now()
    stage.fleet.put("gamma", "hang")
    case.reacted("gamma is out", lambda: stage.out("gamma"), 20)
    out = time.monotonic()
    case.served(12)
    assert case.went_to("gamma", out) == 0
    case.now()
    stage.fleet.clear("gamma")
    case.recovered("gamma serves", lambda: stage.serves("gamma"), 20)
    case.note = "streams go on elsewhere, requests without an answer are moved"
    # A second for the machine: polls are handed out by a timer of 0.1 s.
    assert case.react < bound + 1
    told = f"{shown(case.react)} (bound: poll interval + 2 time limits, {bound:g} s)"
    tell("hang", "fault to no new work", told)


def test_xid(stage, begin, tell):
    """A card falls off the bus: scrape, rule, delivery, and no new work."""
    case = begin("XID 79 on a card")
    series = 'DCGM_EXP_XID_ERRORS_COUNT{node="gamma",xid="79"} > 0'
    began = case.now()
    stage.fleet.put("gamma", "xid", code=79)
    until(lambda: stage.product.query(series), "scraped", every=0.005)
    scraped = time.monotonic()
    until(lambda: stage.firing("GpuXidCritical", "gamma"), "it fires", every=0.005)
    fired = time.monotonic()
    case.reacted("gamma is out", lambda: stage.out("gamma"), 20)
    out = time.monotonic()
    case.served(12)
    assert case.went_to("gamma", out) == 0
    tell("XID 79", "fault to scraped (interval 1 s)", shown(scraped - began))
    tell(
        "XID 79",
        "scraped to the alert fires (rule interval 1 s)",
        shown(fired - scraped),
    )
    tell(
        "XID 79",
        "the alert fires to no new work (notification or pass)",
        shown(out - fired),
    )
    tell("XID 79", "fault to no new work", shown(out - began))
    assert out - began < 2 * (SCRAPE_SECONDS + RULE_SECONDS) + 1
    case.now()
    stage.fleet.clear("gamma")
    gone = "GpuXidCritical"
    until(lambda: not stage.firing(gone, "gamma"), "the alert is gone", seconds=60)
    stage.passes(4)
    if stage.out("gamma"):  # a person clears it, where no generation was sooner: 404
        cleared = stage.product.admin("POST", "nodes/gamma/clear", {"alert": gone})
        assert cleared.status_code in {200, 404}
    case.recovered("gamma serves", lambda: stage.serves("gamma"), 60)
    case.note = "the latch outlives the alert"
