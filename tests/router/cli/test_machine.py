"""What a node finds of itself, by the output of its own tools."""

from __future__ import annotations

import pytest

from router.cli import cards, machine
from router.cli.machine import Gpu
from tests.harness.process import ROOT


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", 82.6),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3", 133.8),
        ("NVIDIA H100 PCIe", 102.4),
        ("NVIDIA A100-SXM4-80GB", 78.0),
        ("NVIDIA A100 80GB PCIe", 78.0),
        ("NVIDIA H200", 133.8),
        ("Tesla T4", 16.2),
        ("Tesla V100-SXM2-16GB", 31.4),
        ("NVIDIA GeForce RTX 3060", 12.7),
        ("NVIDIA GeForce GTX 970", None),
    ],
)
def test_what_a_card_can_do(name, expected):
    """By the driver's name; a weaker card of a similar name is not taken for it."""
    assert cards.tflops(name) == expected


def test_the_installer_is_beside_the_exporter():
    """It is the one line that `join` prints."""
    assert machine.installer() == ROOT / "exporters" / "install.sh"


def test_an_installer_that_fails_says_so(tmp_path):
    """Its exit status counts; its flags reach it."""
    script = tmp_path / "install.sh"
    script.write_text('[ "$1" = --fine ]\n')
    assert machine.install_exporter(script, ("--fine",))
    assert not machine.install_exporter(script, ())
