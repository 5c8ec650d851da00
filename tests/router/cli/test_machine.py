"""What a node finds of itself, by the output of its own tools."""

from __future__ import annotations

import pytest

from router.cli import machine
from router.cli.machine import Gpu


def tool(output):
    return lambda argv: output if argv else ""


def test_cards_by_the_driver_s_tool():
    """Names may have commas; memory is told in MiB."""
    shown = "NVIDIA H200, 143771\nQuadro, RTX, 24576\n"
    assert machine.gpus(tool(shown)) == (
        Gpu("NVIDIA H200", 143771 * 2**20),
        Gpu("Quadro, RTX", 24576 * 2**20),
    )


@pytest.mark.parametrize("shown", ["", "No devices were found\n", "GPU, [N/A]\n"])
def test_no_card(shown):
    """No tool, no card, or one that does not tell."""
    assert machine.gpus(tool(shown)) == ()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("Environment=OLLAMA_HOST=0.0.0.0 OLLAMA_NUM_PARALLEL=4\n", 4),
        ('Environment="OLLAMA_NUM_PARALLEL=8"\n', 8),
        ("Environment=OLLAMA_NUM_PARALLEL=0\n", None),
        ("Environment=\n", None),
        ("", None),
    ],
)
def test_slots_by_the_unit(shown, expected):
    """As systemd shows what was set; 0 means that Ollama chooses."""
    assert machine.parallel(tool(shown)) == expected


def test_a_tool_that_is_not_there_says_nothing():
    """Nor one that fails."""
    assert machine.run(("inferops-no-such-tool",)) == ""
    assert machine.run(("false",)) == ""
    assert machine.run(("echo", "a")) == "a\n"


def test_own_address():
    """That of the interface by which the router is reached."""
    assert machine.own_address("http://127.0.0.1:8000") == "127.0.0.1"
