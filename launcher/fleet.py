"""Which nodes the product works with: those of the inventory, or simulated ones."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from launcher import health
from launcher.errors import LaunchError
from router.config.inventory import load_inventory
from router.errors import ConfigError

_PROBE_SECONDS = 1.5
_MOST_PROBES = 32  # at once


class Choice(StrEnum):
    """What the person asked for."""

    AUTO = "auto"
    REAL = "real"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    url: str
    simulated: bool

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80


@dataclass(frozen=True, slots=True)
class Fleet:
    """simulate: the simulator plays the simulated nodes.

    fallback: the inventory is left aside for the shipped demonstration.
    """

    simulate: bool
    message: str
    fallback: bool = False


Answers = Callable[[str], bool]


def members(inventory: Path) -> tuple[Member, ...]:
    """Read the inventory; raises LaunchError with every fault, as the router would."""
    try:
        nodes = load_inventory(inventory).nodes
    except ConfigError as error:
        raise LaunchError(str(error)) from error
    entries = yaml.safe_load(inventory.read_text(encoding="utf-8"))
    return tuple(
        Member(node.name, node.url, entry["labels"].get("__simulated") == "true")
        for node, entry in zip(nodes, entries, strict=True)
    )


def ollama_answers(url: str) -> bool:
    return health.answers(f"{url}/api/version", _PROBE_SECONDS)


def decide(
    choice: Choice, nodes: tuple[Member, ...], answers: Answers = ollama_answers
) -> Fleet:
    """Take the real nodes when one of them answers, otherwise simulate."""
    simulated = [node.name for node in nodes if node.simulated]
    real = [node for node in nodes if not node.simulated]
    if choice is Choice.REAL:
        return Fleet(bool(simulated), f"{len(nodes)} nodes of the inventory")
    if not real:
        return Fleet(simulate=True, message=f"simulated: {', '.join(simulated)}")
    if choice is Choice.AUTO:
        found = _answering(real, answers)
        if found:
            return Fleet(bool(simulated), f"Ollama answers on {', '.join(found)}")
    names = ", ".join(node.name for node in real)
    why = (
        f"NO OLLAMA ANSWERS on {names}"
        if choice is Choice.AUTO
        else f"as asked, without {names}"
    )
    message = f"{why}: running on four SIMULATED nodes, their answers are made up"
    return Fleet(simulate=True, message=message, fallback=True)


def _answering(nodes: list[Member], answers: Answers) -> list[str]:
    with ThreadPoolExecutor(_MOST_PROBES) as pool:
        well = pool.map(lambda node: answers(node.url), nodes)
        return [node.name for node, yes in zip(nodes, well, strict=True) if yes]
