"""The usage ledger of a real router: rows, energy against the simulator, deaths."""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
import subprocess
import sys
import threading
from contextlib import closing

import pyarrow.parquet as pq
import pytest
import requests

from tests.harness.poll import until
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.stack import stack

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"


def body(tokens: int, **more: object) -> bytes:
    messages = [{"role": "user", "content": "count on from 7"}]
    options = {"num_predict": tokens}
    ask = {"model": MODEL, "messages": messages, "options": options, **more}
    return json.dumps(ask).encode()


def ask(port: int, address: str, tokens: int) -> None:
    """Send a request from an address of this machine, and read its reply."""
    client = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=60, source_address=(address, 0)
    )
    with closing(client):
        client.request("POST", "/api/chat", body(tokens))
        answer = client.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()


def used(report: dict) -> dict[str, dict]:
    return {group["principal"]: group for group in report["usage"]}


def test_who_used_what(router, tmp_path):
    """By API, as CSV and by the command line; a wrong filter is named."""
    for address, count in (("127.0.0.2", 2), ("127.0.0.3", 1)):
        for _ in range(count):
            ask(router.port, address, 20)
    report = router.get("/admin/usage").json()
    groups = used(report)
    assert {"client:127.0.0.2": 2, "client:127.0.0.3": 1} == {
        name: group["requests"] for name, group in groups.items()
    }
    assert groups["client:127.0.0.2"]["tokens_out"] == 40
    assert groups["client:127.0.0.2"]["tokens_in"] > 0
    assert report["total"]["requests"] == 3
    text = router.get("/admin/usage?by=model,node&format=csv").text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(MODEL, "3")] == [(row["model"], row["requests"]) for row in rows]
    argv = [sys.executable, "-m", "router.cli", "usage", "--url", router.url]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines()[1].startswith("client:127.0.0.2\t2\t")
    file = tmp_path / "usage.parquet"
    subprocess.run([*argv, "--by", "model", "--parquet", file], check=True, timeout=60)
    assert [(MODEL, 3)] == [
        (row["model"], row["requests"]) for row in pq.read_table(file).to_pylist()
    ]
    argv += ["--parquet", tmp_path / "nowhere" / "file"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (1, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert "nowhere" in done.stderr
    for query, fault in (
        ("by=colour", "by: must be some of principal,model,node,day"),
        ("month=11", "month: must be such as 2026-11"),
        ("who=x", "who: unknown filter"),
        ("format=xml", "format: must be json or csv"),
    ):
        answer = router.get(f"/admin/usage?{query}")
        assert answer.status_code == 400
        assert fault in answer.text
    assert router.metric('inferops_usage_requests_total{principal="other"}') == 0.0
    named = 'inferops_usage_tokens_total{kind="generated",principal="client:127.0.0.2"}'
    assert router.metric(named) == 40.0


NODES = (
    Simulated("one", slots=2, tokens_per_second=100.0, gpus=2),
    Simulated("two", slots=2, tokens_per_second=60.0, tflops=40.0),
)


def counted(fleet: SimulatedFleet) -> float:
    """Return the joules that the simulated cards have taken: the truth."""
    total = 0.0
    for node in NODES:
        text = requests.get(f"{fleet.url(node.name)}/metrics", timeout=5).text
        name = r"^DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION\{.*\} (\S+)$"
        total += sum(map(float, re.findall(name, text, re.MULTILINE))) / 1e3
    return total


@pytest.mark.long
def test_energy_is_the_meters(tmp_path):
    """Requests and idle power together are what the cards took, within 2 %."""
    settings = {
        "INFEROPS_USAGE__METER_INTERVAL_SECONDS": "0.5",
        "INFEROPS_USAGE__PRICE_PER_KWH": "0.3",
    }
    with (
        SimulatedFleet(tmp_path, NODES) as fleet,
        stack(tmp_path, fleet.inventory, settings=settings) as product,
    ):

        def report() -> dict:
            return requests.get(f"{product.url}/admin/usage", timeout=5).json()

        def metered() -> float:
            return report()["total"]["metered_joules"]

        until(lambda: metered() > 0, "meters are read", seconds=60)
        before, began = counted(fleet), metered()
        for address, clients in (("127.0.0.2", 1), ("127.0.0.3", 3)):
            threads = [
                threading.Thread(target=ask, args=(product.ports.router, address, 2500))
                for _ in range(clients)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        over = report()["total"]["idle_joules"]
        until(
            lambda: report()["total"]["idle_joules"] > over + 500,
            "the meters have gone past the end",
            seconds=60,
        )
        took, total, groups = counted(fleet) - before, report()["total"], used(report())
    whole = total["joules"] + total["idle_joules"]
    assert whole == pytest.approx(total["metered_joules"], rel=0.001)
    # Between idle and idle: a scrape that is a second old changes little.
    assert whole - began == pytest.approx(took, rel=0.02)
    few, many = groups["client:127.0.0.2"], groups["client:127.0.0.3"]
    assert (0, 0) == (few["unmetered"], many["unmetered"])
    assert few["joules"] > 0
    # Three that share cards need less than three times as much.
    assert few["joules"] < many["joules"] < 3.2 * few["joules"]
    assert few["cost"] == pytest.approx(few["joules"] / 3.6e6 * 0.3)
