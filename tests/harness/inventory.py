"""Inventories of nodes that the probe alone asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def entry(name: str, url: str, *, slots: int | None = None) -> dict[str, Any]:
    """One node as the inventory has it; without slots the router learns them."""
    labels = {"node": name, "__ollama": url, "__scrape": "probe"}
    if slots is not None:
        labels["__slots"] = str(slots)
    return {"targets": ["127.0.0.1"], "labels": labels}


def write_inventory(path: Path, urls: dict[str, str], *, slots: int | None = 2) -> Path:
    """Write the inventory of such nodes; JSON is YAML."""
    path.write_text(json.dumps([entry(n, url, slots=slots) for n, url in urls.items()]))
    return path
