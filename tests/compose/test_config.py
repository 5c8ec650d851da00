"""docker-compose.yml is valid for every profile, as Compose itself judges."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import combinations
from typing import Any

import pytest

from exporters import VERSION
from tests.harness.process import ROOT

PROFILES = ("demo", "gpu", "chat", "tailscale", "ollama", "ollama-gpu")
ALWAYS = {
    "init",
    "config-reloader",
    "router",
    "prometheus",
    "alertmanager",
    "grafana",
    "exporter",
    "node-exporter",
}
OWN = {
    "demo": {"simulator"},
    "gpu": {"exporter-gpu", "dcgm-exporter"},
    "chat": {"open-webui"},
    "tailscale": {"tailscale"},
    "ollama": {"ollama"},
    "ollama-gpu": {"gpu-ollama"},
}
EVERY = [
    *(chosen for count in range(3) for chosen in combinations(PROFILES, count)),
    PROFILES,
]


def config(file: str = "docker-compose.yml", **environment: str) -> dict[str, Any]:
    """Ask the stand-alone Compose, which needs no engine."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose on PATH")
    asked = subprocess.run(
        [program, "--file", file, "config", "--format", "json"],
        cwd=ROOT,
        env={"HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == asked.returncode, asked.stderr
    assert "" == asked.stderr
    return json.loads(asked.stdout)


@pytest.mark.parametrize("chosen", EVERY, ids=lambda each: "+".join(each) or "none")
def test_profiles(chosen) -> None:
    """Each combination of profiles gives just its services, without a warning."""
    found = config(COMPOSE_PROFILES=",".join(chosen))

    expected = ALWAYS.union(*(OWN[profile] for profile in chosen))
    assert expected == set(found["services"])


def test_the_demonstration_is_the_default() -> None:
    """A plain start has simulated nodes, and an inventory that names them."""
    found = config()["services"]

    assert "simulator" in found
    assert {str(ROOT / "simulator" / "targets")} == targets(found)


def targets(services: dict[str, Any]) -> set[str]:
    """Give the folders from which init and config-reloader take the inventory."""
    return {
        volume["source"]
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume["target"] == "/targets"
    }


def test_one_name_for_links() -> None:
    """INFEROPS_EXTERNAL_HOST stands in every link that people get, with the port."""
    found = config(INFEROPS_EXTERNAL_HOST="ai.lan", INFEROPS_GRAFANA_PORT="3333")
    text = json.dumps(found["services"])

    for link in (
        "--web.external-url=http://ai.lan:9090",
        "--web.external-url=http://ai.lan:9093",
        '"GF_SERVER_ROOT_URL": "http://ai.lan:3333"',
        '"GRAFANA_LINK": "http://ai.lan:3333"',
        '"ROUTER_LINK": "http://ai.lan:8000"',
        '"INFEROPS_WEB__HOSTS": "ai.lan"',
    ):
        assert link in text


def test_addresses_behind_a_proxy() -> None:
    """Each service's whole address can be given."""
    text = json.dumps(config(INFEROPS_PROMETHEUS_URL="https://ai.example.org/prom"))

    assert "--web.external-url=https://ai.example.org/prom" in text


def test_ports_and_addresses_are_variables() -> None:
    """Every published port can be moved, to another address too."""
    variables = {
        "INFEROPS_ADDRESS": "192.0.2.1",
        "INFEROPS_TELEMETRY_ADDRESS": "192.0.2.2",
        "INFEROPS_ROUTER_PORT": "1",
        "INFEROPS_PROMETHEUS_PORT": "2",
        "INFEROPS_ALERTMANAGER_PORT": "3",
        "INFEROPS_GRAFANA_PORT": "4",
        "INFEROPS_CHAT_PORT": "5",
        "INFEROPS_SIMULATOR_PORT": "6",
    }
    found = config(COMPOSE_PROFILES="demo,chat", **variables)["services"]

    assert {
        ("router", "192.0.2.1", "1"),
        ("prometheus", "192.0.2.2", "2"),
        ("alertmanager", "192.0.2.2", "3"),
        ("grafana", "192.0.2.2", "4"),
        ("open-webui", "192.0.2.1", "5"),
        ("simulator", "127.0.0.1", "6"),
    } == {
        (name, port["host_ip"], port["published"])
        for name, service in found.items()
        for port in service.get("ports", ())
    }


def test_the_projects_name_is_not_the_folders() -> None:
    """A checkout may be renamed: its volumes are found again."""
    assert ("inferops", "other") == (
        config()["name"],
        config(COMPOSE_PROJECT_NAME="other")["name"],
    )


def test_names_behind_a_proxy() -> None:
    """INFEROPS_HOSTS lets names in; without it known ones only, whoever asks."""

    def hosts(**environment: str) -> str:
        found = config(**environment)["services"]["router"]["environment"]
        return str(found["INFEROPS_WEB__HOSTS"])

    assert ("localhost", "ai.example.org") == (
        hosts(),
        hosts(INFEROPS_HOSTS="ai.example.org"),
    )


def test_own_machines_instead() -> None:
    """INFEROPS_TARGETS puts another inventory before every reader."""
    found = config(INFEROPS_TARGETS="./prometheus/targets")["services"]

    assert {str(ROOT / "prometheus" / "targets")} == targets(found)


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ("cpu", {"exporter", "node-exporter"}),
        ("gpu", {"gpu-exporter", "dcgm-exporter", "node-exporter"}),
        ("cpu,ollama", {"exporter", "node-exporter", "ollama"}),
        (
            "gpu,ollama-gpu",
            {"gpu-exporter", "dcgm-exporter", "node-exporter", "gpu-ollama"},
        ),
    ],
)
def test_a_node(profiles, expected) -> None:
    """compose/node.yml has what a node needs, and builds from exporters/ alone."""
    found = config("compose/node.yml", COMPOSE_PROFILES=profiles)["services"]

    assert expected == set(found)
    assert {str(ROOT / "exporters")} == {
        each["build"]["context"] for each in found.values() if "build" in each
    }


def test_a_node_and_the_control_plane_run_the_same_images() -> None:
    """One version of each image is pinned, wherever it stands."""
    ours, node = (
        config(COMPOSE_PROFILES=",".join(PROFILES)),
        config("compose/node.yml", COMPOSE_PROFILES="cpu,gpu,ollama,ollama-gpu"),
    )

    pinned = {each["image"] for each in ours["services"].values()}
    others = {each["image"] for each in node["services"].values()}
    assert {f"inferops-exporter:{VERSION}"} == others - pinned
