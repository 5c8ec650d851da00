"""docker-compose.yml is valid for every profile, as Compose itself judges."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import combinations
from typing import Any

import pytest

from tests.harness.process import ROOT

PROFILES = ("demo", "gpu", "chat", "tailscale")
ALWAYS = {
    "init",
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
}
EVERY = [chosen for count in range(5) for chosen in combinations(PROFILES, count)]


def config(**environment: str) -> dict[str, Any]:
    """Ask the stand-alone Compose, which needs no engine."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose on PATH")
    asked = subprocess.run(
        [program, "config", "--format", "json"],
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
    for name in ("router", "prometheus", "exporter"):
        (targets,) = (
            volume["source"]
            for volume in found[name]["volumes"]
            if volume["target"] == "/etc/inferops/prometheus/targets"
        )
        assert str(ROOT / "simulator" / "targets") == targets


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

    sources = {
        volume["source"]
        for service in found.values()
        for volume in service.get("volumes", ())
        if volume["target"] == "/etc/inferops/prometheus/targets"
    }
    assert {str(ROOT / "prometheus" / "targets")} == sources
