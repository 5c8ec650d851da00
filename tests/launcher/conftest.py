"""Paths of a run in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.services import Paths, Programs
from tests.harness.process import ROOT


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(
        root=ROOT,
        run=tmp_path / "run",
        inventory=ROOT / "prometheus" / "targets" / "nodes.yml",
    )


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Programs that nobody starts."""
    home = tmp_path / "bin"
    return Programs(
        prometheus=home / "prometheus",
        alertmanager=home / "alertmanager",
        node_exporter=home / "node_exporter",
        grafana=home / "grafana",
    )
