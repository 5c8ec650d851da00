"""How long a request would wait for a slot: work ahead over speed; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# An estimate is a mean, and replies are as unequal as people's questions.
_CLEARLY = 1.5
_SLACK_SECONDS = 1.0


class SlotView(Protocol):
    """What an estimate reads of the ledger."""

    def limit(self, node: str, model: str) -> int: ...

    def slot_seconds(self, node: str) -> float | None: ...


def expected_wait(
    slots: SlotView, nodes: Sequence[str], model: str, ahead: int
) -> float | None:
    """Return seconds until a slot is free for who has so many `ahead`.

    None while too little is known of any of the nodes that could give one.
    Others may free up sooner than their share, so this errs to the short side:
    only those who want the same model are counted as ahead.
    """
    ends_per_second = 0.0
    for node in nodes:
        seconds = slots.slot_seconds(node)
        if not seconds:
            return None
        ends_per_second += slots.limit(node, model) / seconds
    return (ahead + 1) / ends_per_second if ends_per_second else None


def hopeless(wait: float, left: float) -> bool:
    """Say whether the wait exceeds the time left clearly."""
    return wait > _CLEARLY * left + _SLACK_SECONDS
