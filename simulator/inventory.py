"""Read the nodes to play out of `nodes.yml`, Prometheus' file_sd format.

Only what the simulator needs is checked here; the router checks the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from simulator.catalogue import models_of
from simulator.model import NodeSpec


class InventoryError(Exception):
    """The inventory cannot be played: file, path and value."""


_NUMBERS = {
    "__slots": "slots",
    "__vram_bytes": "vram_bytes",
    "__tflops": "tflops",
    "__sim_tokens_per_second": "tokens_per_second",
    "__sim_prompt_tokens_per_second": "prompt_tokens_per_second",
    "__sim_load_seconds": "load_seconds",
    "__sim_gpus": "gpus",
}
_WHOLE = frozenset({"slots", "gpus"})
_OWN_PREFIX = "__sim_"


def read(path: Path) -> tuple[NodeSpec, ...]:
    """Return the simulated nodes of a file; raises InventoryError."""
    nodes = [
        _node(where, labels) for where, labels in _entries(path) if _simulated(labels)
    ]
    _check_whole(path, nodes)
    return tuple(nodes)


def declared(path: Path) -> dict[str, dict[str, float]]:
    """Return what a file says of each node in numbers, simulated or not.

    The numbers have the names of `NodeSpec`'s fields. Raises InventoryError.
    """
    return {
        str(labels.get("node", index)): _numbers(where, labels)
        for index, (where, labels) in enumerate(_entries(path))
    }


def any_simulated(path: Path) -> bool:
    """Tell whether a file names a simulated node; raises InventoryError."""
    return any(_simulated(labels) for _, labels in _entries(path))


def _entries(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where each entry stands, and its labels."""
    try:
        text = path.read_text(encoding="utf-8")
        # Labels are what is written, in quotes or not, as Prometheus takes them.
        document = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - texts only
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InventoryError(f"{path}: is no YAML: {error}") from error
    if not isinstance(document, list):
        raise InventoryError(f"{path}: must be a list of entries, got {document!r}")
    for index, entry in enumerate(document):
        where = f"{path}: [{index}]"
        labels = entry.get("labels") if isinstance(entry, dict) else None
        if not isinstance(labels, dict):
            what = f"must have targets and labels, got {entry!r}"
            raise InventoryError(f"{where}: {what}")
        yield where, labels


def _simulated(labels: Mapping[str, Any]) -> bool:
    return labels.get("__simulated") == "true"


def _node(where: str, labels: Mapping[str, Any]) -> NodeSpec:
    for label, value in labels.items():
        if not isinstance(value, str):
            raise _wrong(where, label, "must be text", value)
        if label.startswith(_OWN_PREFIX) and label not in _NUMBERS:
            raise _wrong(where, label, "is no label of the simulator", value)
    name = labels.get("node", "")
    if not name:
        raise _wrong(where, "node", "is required", name)
    numbers = _numbers(where, labels)
    return NodeSpec(name=name, port=_port(where, labels.get("__ollama", "")), **numbers)


def _numbers(where: str, labels: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field: _number(where, label, labels[label], whole=field in _WHOLE)
        for label, field in _NUMBERS.items()
        if label in labels
    }


def _number(where: str, label: str, text: str, *, whole: bool) -> float | int:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = 0
    if not (value > 0 and math.isfinite(value)):
        kind = "a whole number" if whole else "a number"
        raise _wrong(where, label, f"must be {kind} > 0", text)
    return value


def _port(where: str, url: str) -> int:
    try:
        port = urlsplit(url).port
    except ValueError:
        port = None
    if not port:
        raise _wrong(where, "__ollama", "must be a URL with a port", url)
    return port


def _wrong(where: str, label: str, what: str, value: object) -> InventoryError:
    return InventoryError(f"{where}.labels.{label}: {what}, got {value!r}")


def _check_whole(path: Path, nodes: list[NodeSpec]) -> None:
    if not nodes:
        raise InventoryError(f"{path}: no entry has __simulated: 'true'")
    _check_unique(path, "node", [node.name for node in nodes])
    _check_unique(path, "port", [node.port for node in nodes])
    for node in nodes:
        if not models_of(node):
            raise InventoryError(
                f"{path}: {node.name}: __vram_bytes: no model of the simulator fits,"
                f" got {node.vram_bytes!r}"
            )


def _check_unique(path: Path, what: str, values: Sequence[str | int]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise InventoryError(f"{path}: {what} is given twice, got {value!r}")
