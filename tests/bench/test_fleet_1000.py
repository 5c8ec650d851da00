"""The thousand nodes are nodes that Prometheus and the router can tell apart."""

from __future__ import annotations

import json
import sys
import urllib.request

from bench.fleet_1000 import show
from bench.many_nodes import address, entries, exposition
from router.config.inventory import parse_inventory
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process


def test_each_node_has_an_address_of_its_own():
    """On loopback, and none twice."""
    addresses = {address(index) for index in range(1000)}
    assert len(addresses) == 1000
    assert all(each.startswith("127.1.") for each in addresses)


def test_the_router_takes_their_inventory():
    """It is read as any other."""
    inventory = parse_inventory(json.dumps(entries(1000, 21600, 2)))
    assert len(inventory.nodes) == 1000
    assert inventory.nodes[999].url == "http://127.1.3.250:21600"
    assert inventory.nodes[999].slots == 2


def test_one_process_speaks_for_all(tmp_path):
    """Metrics are the asked address' own; Ollama's routes answer everywhere."""
    port = free_port()
    argv = [sys.executable, "-m", "bench.many_nodes", "--port", str(port)]
    with Process(argv, log=tmp_path / "nodes.log"):

        def get(index, path):
            url = f"http://{address(index)}:{port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()

        until(lambda: get(0, "/api/version"), "the nodes answer")
        for index in (0, 500, 999):
            assert get(index, "/metrics") == exposition(address(index))
        assert exposition(address(0)) != exposition(address(999))
        assert json.loads(get(999, "/api/tags"))["models"]


def test_the_report_names_every_run():
    """Runs without passes have no time of one."""
    run = {
        "passes": 3.0,
        "pass_seconds": 0.25,
        "memory_mib": 120.0,
        "gap_ms": {"p50": 50.0, "p99": 60.0, "largest": 90.0},
        "tokens_per_second": 5900.0,
        "faults": 0,
    }
    report = {
        "machine": "2 cores",
        "nodes": 1000,
        "streams": 300,
        "load_average": 1.0,
        "runs": {"with": [run], "without": [{**run, "pass_seconds": None}]},
        "rules": {"inferops-health (every 1 s)": 0.4},
    }
    lines = show(report).splitlines()
    assert lines[3].split() == [
        "with",
        "3",
        "0.25",
        "120",
        "50",
        "60",
        "90",
        "5900",
        "0",
    ]
    assert lines[4].split() == ["without", "3", "120", "50", "60", "90", "5900", "0"]
    assert lines[-1].split()[-1] == "0.400"
