"""A node that joins changes nothing of what people wrote."""

from __future__ import annotations

import pytest

from router.config.additions import inventory_entry, with_entry
from router.config.inventory import parse_inventory
from router.errors import ConfigError

WRITTEN = """\
# our rigs
- targets: ["10.0.0.1"]
  labels: {node: "a"}  # the old one"""
JOINS = inventory_entry("b", "10.0.0.2", {"__slots": "4", "__scrape": "probe"})


def names(text):
    return [each.name for each in parse_inventory(text).nodes]


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_the_text_stays(end):
    """Comments, order and quotes; the entry comes behind them."""
    found = with_entry(WRITTEN + end, JOINS, source="nodes.yml")
    assert found.startswith(WRITTEN)
    assert names(found) == ["a", "b"]
    [_, node] = parse_inventory(found).nodes
    assert (node.url, node.slots) == ("http://10.0.0.2:11434", 4)


def test_a_program_s_list_stays_one():
    """JSON is an inventory, too."""
    text = '[{"targets": ["10.0.0.1"], "labels": {"node": "a"}}]'
    assert names(with_entry(text, JOINS, source="nodes.yml")) == ["a", "b"]


@pytest.mark.parametrize(
    "entry",
    [
        inventory_entry("a", "10.0.0.2", {}),
        inventory_entry("b", "10.0.0.1", {}),
        inventory_entry("b b", "10.0.0.2", {}),
        inventory_entry("b", "10.0.0.2", {"__slots": "many"}),
        inventory_entry("b", "10.0.0.2", {"__nonsense": "1"}),
        inventory_entry("b\n- targets: [x]", "10.0.0.2", {}),
    ],
)
def test_what_would_be_no_inventory_is_refused(entry):
    """A name or an Ollama that is there, and whatever the file would not take."""
    with pytest.raises(ConfigError):
        with_entry(WRITTEN, entry, source="nodes.yml")


def test_a_list_that_is_cut_off_is_not_added_to():
    """The message names the file and the place, as for every other file."""
    with pytest.raises(ConfigError, match=r"nodes\.yml: line 2, column 1: not YAML"):
        with_entry('[{"targets": ["10.0.0.1"]', JOINS, source="nodes.yml")


def test_an_indented_list_is_not_broken():
    """Appended at its side it would be no YAML: it is refused, not written."""
    text = '  - targets: ["10.0.0.1"]\n    labels: {node: "a"}\n'
    with pytest.raises(ConfigError):
        with_entry(text, JOINS, source="nodes.yml")
