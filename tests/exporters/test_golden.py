"""promtool's opinion of the golden expositions."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.exporters.conftest import GOLDEN

# node_exporter's own names, which promtool does not like either.
NODE_EXPORTERS = {
    f"{name} metric names should be written in 'snake_case' not 'camelCase'"
    for name in (
        "node_memory_MemAvailable_bytes",
        "node_memory_MemTotal_bytes",
        "node_memory_SwapFree_bytes",
        "node_memory_SwapTotal_bytes",
    )
}


@pytest.mark.parametrize(
    "name",
    [
        *("nvml", "nvml-mig", "nvml-partial", "nvml-vanished"),
        *("ollama", "runner", "system"),
    ],
)
def test_promtool_finds_no_fault(name) -> None:
    """Types, help texts and names are as Prometheus wants them."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=(GOLDEN / f"{name}.prom").read_text(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    faults = set((done.stdout + done.stderr).splitlines())
    assert faults == (NODE_EXPORTERS if name == "system" else set())
