"""`inferops` with a router: nodes, holds and why a request went where it went."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e
MODEL = "llama3.2:3b"


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    nodes = [Simulated("rig-4090", slots=4), Simulated("rig-3060", slots=2)]
    with (
        SimulatedFleet(folder / "fleet", nodes) as fleet,
        Router(folder, fleet.inventory, prometheus_port=free_port()) as router,
    ):
        yield router


@pytest.fixture
def inferops(router):
    """Run the command; gives code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [str(ROOT / "launcher" / "inferops"), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"INFEROPS_URL": router.url},
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_nodes_are_a_table_and_json(inferops):
    """Tabs for `cut`, JSON for programs; one node by name."""
    names, first, second = inferops("nodes")[1].splitlines()
    assert ["node", "state", "score", "in flight", "models", "why"] == (
        names.split("\t")
    )
    assert ["rig-4090", "schedulable"] == first.split("\t")[:2]
    assert "rig-3060" == second.split("\t")[0]
    listed = json.loads(inferops("nodes", "--json")[1])
    assert ["rig-4090", "rig-3060"] == [each["name"] for each in listed]
    assert "rig-3060" == json.loads(inferops("nodes", "rig-3060", "--json")[1])["name"]


def test_cordon_drain_and_uncordon(inferops):
    """Each says what the node is now; an unknown node is refused."""
    code, _, errors = inferops("cordon", "rig-3060", "--reason", "new fan")
    assert (0, True) == (code, "cordon: new fan" in errors), errors
    assert "drained" in inferops("nodes", "rig-3060")[1]
    code, _, errors = inferops("drain", "rig-3060", "--wait", "5", "--minutes", "3")
    assert (0, True) == (code, "0 in flight" in errors), errors
    code, output, _ = inferops("uncordon", "rig-3060", "--json")
    assert (0, []) == (code, json.loads(output)["holds"])
    code, _, errors = inferops("cordon", "nowhere")
    assert (3, True) == (code, "nowhere" in errors)


def test_explain_a_request_and_a_dry_run(router, inferops):
    """By id after the fact, by model beforehand."""
    reply = router.post(
        "/api/generate", json={"model": MODEL, "prompt": "1", "stream": False}
    )
    request_id = reply.headers["X-Request-Id"]
    code, output, errors = inferops("explain", request_id)
    assert (0, "") == (code, output)
    assert f"picked {reply.headers['X-InferOps-Node']}" in errors
    found = json.loads(inferops("explain", "--model", MODEL, "--json")[1])
    assert found["picked"] in {"rig-4090", "rig-3060"}
    assert 3 == inferops("explain", "no-such-request")[0]
    code, _, errors = inferops("explain", MODEL)
    assert (2, True) == (code, f"--model {MODEL}" in errors)


def test_configuration_is_checked(inferops, tmp_path):
    """Valid: 0; each fault on a line, and as JSON: 2."""
    assert 0 == inferops("config", "check", str(ROOT / "router/router.yml"))[0]
    bad = tmp_path / "router.yml"
    bad.write_text("dispatch: {attempts: 0}\nwebb: {}\n")
    code, output, errors = inferops("config", "check", str(bad))
    assert (2, "") == (code, output)
    assert "router.yml: dispatch.attempts: must be >= 1, got 0" in errors
    faults = json.loads(inferops("config", "check", str(bad), "--json")[1])["faults"]
    assert 2 == len(faults)
    bad.write_text(f"signals: {{path: {tmp_path / 'nowhere.yml'}}}\n")
    assert "nowhere.yml: cannot be read" in inferops("config", "check", str(bad))[2]


def test_completion_lists_commands(inferops):
    """The script of a shell; what it asks for is answered."""
    assert "_INFEROPS_COMPLETE=bash_complete" in inferops("completion", "bash")[1]


def test_a_node_joins(tmp_path):
    """One line on the node; again changes nothing, another's name is refused."""
    fleet_nodes = [Simulated("rig-4090"), Simulated("rig-3060")]
    with SimulatedFleet(tmp_path / "fleet", fleet_nodes) as fleet:
        joins = fleet.entries.pop()
        fleet.write(fleet.entries)
        with Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router:
            port = joins["labels"]["__ollama"].rpartition(":")[2]

            def join(name: str) -> subprocess.CompletedProcess[str]:
                return subprocess.run(
                    [
                        *(ROOT / "launcher" / "inferops", "join", "--json"),
                        *("--slots", "2", "--name", name),
                        *("--address", "127.0.0.1", "--port", port),
                    ],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                    env=os.environ | {"INFEROPS_URL": router.url},
                )

            first, again, taken = join("rig-3060"), join("rig-3060"), join("rig-4090")
            assert json.loads(first.stdout)["added"] is True, first.stderr
            assert "schedulable" in json.loads(first.stdout)["state"]
            assert f"sudo sh {ROOT / 'exporters' / 'install.sh'}" in first.stderr
            assert json.loads(again.stdout)["added"] is False
            assert taken.returncode != 0
            assert "must be unique" in taken.stderr
            assert list(router.nodes()) == ["rig-4090", "rig-3060"]
            assert router.nodes()["rig-3060"]["slots"] == 2


def test_a_tailnet_is_discovered(tmp_path):
    """New machines are added, silent ones stay, and those known are left alone."""
    peers = {
        name: {
            "DNSName": f"{name}.tail1.ts.net.",
            "TailscaleIPs": [address],
            "Tags": ["tag:inferops-node"],
            "Online": online,
        }
        for name, address, online in (
            ("rig-4090", "100.64.0.1", False),
            ("rig-new", "127.0.0.2", True),
            ("rig-off", "127.0.0.3", False),
        )
    }
    with (
        SimulatedFleet(tmp_path / "fleet", [Simulated("rig-4090")]) as fleet,
        Router(tmp_path, fleet.inventory, prometheus_port=free_port()) as router,
    ):
        done = subprocess.run(
            [ROOT / "launcher" / "inferops", "discover", "--json", "--status", "-"],
            input=json.dumps({"Peer": peers}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"INFEROPS_URL": router.url},
        )
        states = {each["name"]: each["state"] for each in json.loads(done.stdout)}
        assert states == {
            "rig-4090": "known",
            "rig-new": "added",
            "rig-off": "offline, not added",
        }
        until(lambda: list(router.nodes()) == ["rig-4090", "rig-new"], "it is a node")
