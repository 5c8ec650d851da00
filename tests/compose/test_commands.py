"""Every container's command line, and what is mounted into it, really runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import pytest
import requests

from launcher import tools
from launcher.errors import LaunchError
from launcher.services import Ports
from tests.compose.stage import Stage
from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import ROOT, Process

pytestmark = pytest.mark.e2e

# In the order of depends_on. Not here: Grafana, dcgm-exporter, Open WebUI and
# Tailscale, whose programs come in their images only, and exporter-gpu (no GPU).
RUN = ("simulator", "exporter", "node-exporter", "alertmanager", "prometheus", "router")
EXPECTED = sorted(
    ["router", "prometheus", "alertmanager", "node", *["probe", "dcgm"] * 4]
)


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Stage:
    if os.geteuid() != 0:
        pytest.skip("init gives files to other users: only root may")
    try:
        programs = tools.programs(ROOT, grafana=False)
    except LaunchError as error:
        pytest.skip(str(error))
    # `python` and `gunicorn` are the image's /opt/venv/bin.
    venv = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{venv}{os.pathsep}{os.environ['PATH']}")
    numbers = free_ports(len(fields(Ports)) + 4)
    return Stage(tmp_path, Ports(*numbers[4:]), tuple(numbers[:4]), programs)


@pytest.fixture
def running(stage, services) -> Iterator[dict[str, Process]]:
    """Init, to its end; then every service, each healthy by its own healthcheck."""
    init = stage.start("init", services["init"])
    assert 0 == init.wait(60), init.tail()
    stage.rewrite(stage.root / "run" / "inferops" / "alertmanager")
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(stage.start(name, services[name])) for name in RUN
        }
        for name, process in processes.items():

            def healthy(name: str = name, process: Process = process) -> bool:
                assert process.running, process.tail()
                return stage.healthy(services[name])

            until(healthy, f"{name} is healthy", seconds=60)
        yield processes


# How Prometheus and people call the router, and how a page that rebinds its name does.
NAMES = {
    "router:8000": 200,
    "127.0.0.1:8000": 200,
    "inferops.tail1234.ts.net:8000": 200,
    "rebound.evil.example:8000": 403,
}


def test_the_product_works_from_its_command_lines(stage, running) -> None:
    """A request is answered, all telemetry arrives, the webhook's token is right."""
    router = f"http://127.0.0.1:{stage.ports.router}"
    prometheus = f"http://127.0.0.1:{stage.ports.prometheus}/api/v1"

    def up() -> bool:
        found = requests.get(f"{prometheus}/targets", timeout=5).json()["data"]
        targets = found["activeTargets"]
        well = [each["labels"]["job"] for each in targets if each["health"] == "up"]
        return sorted(well) == EXPECTED

    def models() -> list[str]:
        found = requests.get(f"{router}/api/tags", timeout=5).json()["models"]
        return [each["name"] for each in found]

    until(up, "every target of Prometheus answers", seconds=60)
    (model, *_) = until(models, "the router knows models", seconds=30)
    reply = requests.post(
        f"{router}/api/generate",
        json={"model": model, "prompt": "hello", "stream": False},
        timeout=60,
    )
    assert (200, True) == (reply.status_code, reply.json()["done"])
    assert {"inferops-health", "inferops-fleet"} <= {
        group["name"]
        for group in requests.get(f"{prometheus}/rules", timeout=5).json()["data"][
            "groups"
        ]
    }
    token = stage.root / "run" / "inferops" / "alertmanager" / "webhook-token"
    rung = requests.post(
        f"{router}/webhook/alertmanager",
        headers={"Authorization": f"Bearer {token.read_text().strip()}"},
        json={},
        timeout=5,
    )
    assert 401 != rung.status_code, rung.text
    for host, status in NAMES.items():
        asked = requests.get(f"{router}/readyz", headers={"Host": host}, timeout=5)
        assert (host, status) == (host, asked.status_code)
    assert all(process.running for process in running.values())
