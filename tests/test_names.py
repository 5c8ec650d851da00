"""Names that a stranger can look up: each class once, no word that only we know."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.harness.process import ROOT

# A Protocol and the one class that implements it may share a name.
SHARED = {"Deviation", "Deviations", "LogSettings"}
# What such names were once; the glossary of docs/ has the field's own words.
PRIVATE = {
    *("Attention", "Bell", "Bridge", "Comings", "Desk", "Doorbell", "Doubt", "Drain"),
    *("Easing", "Flights", "Gate", "Growth", "Hand", "InHand", "Keeper", "Keeping"),
    *("Kept", "Leftovers", "Leg", "Memory", "Outlook", "Presented", "Recollection"),
    *("Ring", "Said", "Seam", "Spent", "Stock", "Surroundings", "Talk", "Told"),
    *("Trail", "Visit", "Way", "Wish"),
}


def classes() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "router").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path.relative_to(ROOT)


def test_each_class_has_a_name_of_its_own():
    """A name that is found twice has to be read twice."""
    found: dict[str, list[Path]] = defaultdict(list)
    for name, path in classes():
        found[name].append(path)
    twice = {name: paths for name, paths in found.items() if len(paths) > 1}
    assert {} == {name: twice[name] for name in twice.keys() - SHARED}


def test_no_private_word_comes_back():
    """They were replaced by what Prometheus, nginx and Kubernetes call it."""
    assert [] == [(name, path) for name, path in classes() if name in PRIVATE]
