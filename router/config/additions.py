"""Adds a node to the text of an inventory, and leaves the rest as people wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from router.config.inventory import parse_inventory
from router.config.yaml import parse


def inventory_entry(
    name: str, address: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Make an entry in the format of file_sd."""
    return {"targets": [address], "labels": {"node": name, **labels}}


def with_entry(text: str, entry: Mapping[str, Any], *, source: str) -> str:
    """Return the text with an entry added at its end. Raises ConfigError.

    A list in brackets, as programs write it, is rewritten; any other text keeps its
    comments and its order.
    """
    if text.lstrip().startswith("["):
        known = parse(text, source, as_written=True)
        found = json.dumps([*known, entry], indent=1) + "\n"
    else:
        begun = text if text.endswith("\n") or not text else f"{text}\n"
        found = begun + yaml.safe_dump([dict(entry)], sort_keys=False)
    parse_inventory(found, source=source)
    return found
