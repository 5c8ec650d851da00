"""Nodes that join an inventory's file."""

from __future__ import annotations

import pytest

from router.assembly.inventory import _write
from router.config.additions import inventory_entry
from router.errors import ConfigError

ENTRY = inventory_entry("b", "10.0.0.2", {"__slots": "2"})


def test_an_entry_is_added_once(tmp_path):
    """One that a person wrote without quotes is the same to Prometheus."""
    path = tmp_path / "nodes.yml"
    path.write_text("")
    assert _write(path, ENTRY)
    path.write_text(path.read_text().replace("'2'", "2"))
    assert not _write(path, ENTRY)


def test_a_broken_file_is_left_as_it_is(tmp_path):
    """The error names it."""
    path = tmp_path / "nodes.yml"
    path.write_text("- targets: [")
    with pytest.raises(ConfigError, match=r"nodes\.yml: line"):
        _write(path, ENTRY)
    assert path.read_text() == "- targets: ["
