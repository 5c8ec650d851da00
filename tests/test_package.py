"""The wheel: what `pip install .` gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile

import pytest
import requests

from router import __version__
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process
from tests.harness.simulator import Simulated, SimulatedFleet


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel's files, unpacked as pip would; built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run(
        [*build, "--no-build-isolation", "--wheel-dir", folder, ROOT],
        check=True,
        timeout=120,
        capture_output=True,
    )
    [wheel] = folder.glob(f"inferops-{__version__}-py3-none-any.whl")
    target = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_the_wheel_holds_what_runs(installed):
    """Templates, settings, migrations and rules; no tests, no secrets."""
    for path in (
        "router/router.yml",
        "router/signals.yml",
        "router/gunicorn.conf.py",
        "router/web/pages/templates/base.html",
        "router/web/boards/assets/uplot/uPlot.iife.min.js",
        "router/web/boards/committed/overview.json",
        "router/jobs/migrations/env.py",
        "alerting/objectives.yml",
        "exporters/__main__.py",
    ):
        assert (installed / path).is_file(), path
    top = {path.name for path in installed.iterdir()}
    assert {"router", "exporters", "alerting", "simulator"} == {
        name for name in top if not name.endswith(".dist-info")
    }
    assert not (installed / "alerting/secrets").exists()


@pytest.mark.parametrize(
    "name", ["docker-compose.yml", "compose/node.yml", "docs/upgrade.md"]
)
def test_images_have_the_version(name):
    """`exporters.VERSION` is the one place; what cannot read it is held to it."""
    tags = re.findall(
        r"inferops(?:-exporter)?:(\d+\.[\d.]+)", (ROOT / name).read_text()
    )
    assert {__version__} == set(tags)


def test_changelog_has_the_version():
    """A version is cut before it is released, and a fresh section begins."""
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert ["Unreleased", __version__] == sections[:2]


@pytest.mark.e2e
def test_serve_needs_no_checkout(installed, tmp_path):
    """In an empty folder, against a node that is named on the command line."""
    port = free_port()
    with SimulatedFleet(tmp_path / "fleet", [Simulated("rig")]) as fleet:
        argv = [sys.executable, "-P", "-m", "router.cli", "serve"]
        argv += ["--bind", f"127.0.0.1:{port}", "--node", f"rig={fleet.url('rig')}"]
        work = tmp_path / "empty"
        work.mkdir()
        env = {**os.environ, "PYTHONPATH": str(installed)}
        env |= {"XDG_STATE_HOME": str(tmp_path / "state")}
        url = f"http://127.0.0.1:{port}"
        with Process(argv, log=tmp_path / "log", env=env, cwd=work) as router:
            until(lambda: _ready(url), "the router is ready", seconds=60)
            models = requests.get(f"{url}/api/tags", timeout=10).json()["models"]
            assert models
            assert router.running
        check = [sys.executable, "-P", "-m", "router.cli", "config", "check"]
        checked = subprocess.run(
            check, env=env, cwd=work, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
    assert [] == list(work.iterdir())


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=2).ok
    except requests.ConnectionError:
        return False
