"""The allow-list of /probe: URLs, an inventory that changes, or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporters.allowlist import allowed
from exporters.errors import SettingError
from tests.harness.process import ROOT

INVENTORY = """
- targets: ["192.168.1.20"]
  labels: {node: plain}
- targets: ["192.168.1.21:9100"]
  labels: {node: with-port}
- targets: ["[fd00::5]:9100"]
- targets: ["sim"]
  labels: {node: elsewhere, __ollama: "http://127.0.0.1:21501/"}
"""


def write(path: Path, text: str, age: int) -> None:
    path.write_text(text)
    os.utime(path, (age, age))  # two edits within the clock's grain


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("http://192.168.1.20:11434", True, id="default port"),
        pytest.param("http://192.168.1.21:11434", True, id="another port replaced"),
        pytest.param("http://[fd00::5]:11434", True, id="IPv6"),
        pytest.param("http://127.0.0.1:21501", True, id="own URL"),
        pytest.param("http://sim:11434", False, id="replaced by own URL"),
        pytest.param("http://192.168.1.20:22", False, id="another port"),
        pytest.param("https://192.168.1.20:11434", False, id="another scheme"),
    ],
)
def test_the_inventorys_nodes_are_allowed(tmp_path, target, expected) -> None:
    """Each node's Ollama as the inventory names it, and nothing else."""
    write(tmp_path / "nodes.yml", INVENTORY, 1)
    listed = allowed(str(tmp_path / "nodes.yml"), loopback=False)
    assert (listed.access(target) is not None) is expected


def test_an_edit_of_the_inventory_counts_at_once(tmp_path) -> None:
    """A node that is added may be probed without a restart."""
    path = tmp_path / "nodes.yml"
    write(path, "[]", 1)
    listed = allowed(str(path), loopback=False)
    assert listed.access("http://new:11434") is None
    write(path, '- targets: ["new"]', 2)
    assert listed.access("http://new:11434") is not None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param("{}", "nodes.yml: must be a list, got {}", id="not a list"),
        pytest.param(
            "- labels: {}", "nodes.yml: [0]: KeyError('targets')", id="no targets"
        ),
        pytest.param(
            '- targets: ["a b"]',
            "nodes.yml: [0]: ValueError(\"must be plain ASCII, got 'http://a b",
            id="not a host",
        ),
        pytest.param("- [", "nodes.yml: while parsing", id="not YAML"),
    ],
)
def test_a_wrong_inventory_keeps_the_last_good(tmp_path, caplog, edit, message) -> None:
    """It is logged once, naming file and place; at the start it is an error."""
    path = tmp_path / "nodes.yml"
    write(path, '- targets: ["good"]', 1)
    listed = allowed(str(path), loopback=False)
    write(path, edit, 2)
    with caplog.at_level("WARNING"):
        assert listed.access("http://good:11434") is not None
        assert listed.access("http://good:11434") is not None
    (logged,) = caplog.records
    assert logged.fields["error"].startswith(message)
    with pytest.raises(SettingError) as caught:
        allowed(str(path), loopback=False)
    assert str(caught.value).startswith(f"--probe-targets: {message}")


def test_a_missing_inventory_keeps_the_last_good(tmp_path) -> None:
    """Editors remove the file for a moment."""
    path = tmp_path / "nodes.yml"
    write(path, '- targets: ["good"]', 1)
    listed = allowed(str(path), loopback=False)
    path.unlink()
    assert listed.access("http://good:11434") is not None


def test_a_list_of_urls() -> None:
    """Each is made exact before it is compared."""
    listed = allowed("http://A:11434/,http://b", loopback=True)
    assert listed.access("http://a:11434") is not None
    assert listed.access("http://b:80") is not None
    assert listed.access("http://c:11434") is None


def test_a_wrong_list_of_urls_is_refused() -> None:
    """The message names the flag and the value."""
    with pytest.raises(SettingError) as caught:
        allowed("http://a,ftp://b", loopback=True)
    assert str(caught.value) == (
        "--probe-targets: must begin with http:// or https://, got 'ftp://b'"
    )


@pytest.mark.parametrize("loopback", [True, False], ids=["loopback", "reachable"])
def test_without_a_list_only_this_machine_may_probe(loopback) -> None:
    """An exporter that others reach is not their way into its network."""
    assert bool(allowed(None, loopback=loopback).access("http://a:11434")) is loopback


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("prometheus/targets/nodes.yml", "http://127.0.0.1:21501"),
        ("simulator/targets/nodes.yml", "http://simulator:21501"),
    ],
)
def test_the_shipped_inventories_can_be_probed(path, target) -> None:
    """The demonstration fleet is telemetered through /probe alone."""
    listed = allowed(str(ROOT / path), loopback=False)
    assert listed.access(target) is not None
