"""The nodes of an inventory as virtual ones: slots, and how fast they read and write.

Speeds are `__sim_tokens_per_second` and `__sim_prompt_tokens_per_second` where a node
has them. Else they are guessed by its TFLOPS, which says little: the caller is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simulator.inventory import InventoryError, declared
from simulator.virtual.node import Spec

_PER_TFLOPS = 137 / 82.6  # tokens/s of a 7B model at 4 bit on an RTX 4090
_PROMPT_TIMES = 40.0  # as fast as answers are written, on GPUs that were measured
_SLOTS = 4  # where the inventory leaves them to be learned


def read_fleet(path: Path) -> tuple[list[Spec], list[str]]:
    """Return the nodes, and the names of those whose speed is a guess.

    Raises InventoryError.
    """
    found = declared(path)
    if not found:
        raise InventoryError(f"{path}: has no node")
    specs = [_spec(path, name, numbers) for name, numbers in found.items()]
    guessed = [name for name in found if "tokens_per_second" not in found[name]]
    return specs, guessed


def _spec(path: Path, name: str, numbers: Mapping[str, float]) -> Spec:
    tflops = numbers.get("tflops", 0.0)
    speed = numbers.get("tokens_per_second", _PER_TFLOPS * tflops)
    if not speed:
        raise InventoryError(
            f"{path}: {name}: needs __sim_tokens_per_second, or __tflops for a guess"
        )
    return Spec(
        name,
        speed,
        numbers.get("prompt_tokens_per_second", _PROMPT_TIMES * speed),
        int(numbers.get("slots", _SLOTS)),
        load_seconds=numbers.get("load_seconds", 5.0),
    )
