"""The simulator ends with the demonstration."""

from __future__ import annotations

import sys

import pytest
import yaml

from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import Process

pytestmark = pytest.mark.e2e


def test_it_ends_once_the_inventory_in_use_has_no_simulated_node(tmp_path) -> None:
    """A faulty file does not end it; one with none of its nodes does, in order."""
    control, port = free_ports(2)
    played, in_use = tmp_path / "played.yml", tmp_path / "in_use.yml"
    labels = {"node": "s", "__ollama": f"http://127.0.0.1:{port}"}
    simulated = [{"targets": ["s"], "labels": labels | {"__simulated": "true"}}]
    played.write_text(yaml.safe_dump(simulated))
    in_use.write_text("a: [")
    argv = [
        *(sys.executable, "-m", "simulator", "--inventory", played),
        *("--control-port", str(control), "--while-in", in_use),
    ]

    with Process(argv, log=tmp_path / "log") as process:
        until(lambda: "simulator_ready" in process.tail(), "it is ready", seconds=60)
        in_use.write_text(yaml.safe_dump(simulated))
        assert process.running

        in_use.write_text(yaml.safe_dump([{"targets": ["r"], "labels": {"node": "r"}}]))

        assert 0 == process.wait(30)
