"""Policies: ways to choose among candidates; one function each, named in the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from router.scheduling.pipeline import Candidate, Picker


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """How a node is chosen.

    pick:       takes one of the nodes that have a free slot
    holds_back: whether a request may wait for a better node than those, and those that
                wait be matched with nodes (`router.scheduling.matching`)
    """

    pick: Picker
    holds_back: bool = False


def shortest_completion(candidates: Sequence[Candidate]) -> Candidate:
    """Take the node with the least cost of completion."""
    return min(candidates, key=lambda c: c.cost)


def least_in_flight(candidates: Sequence[Candidate]) -> Candidate:
    """Take the node with the fewest requests; ties by cost."""
    return min(candidates, key=lambda c: (c.in_flight, c.cost))


def round_robin() -> Picker:
    """Take them in turn: a baseline for benchmarks."""
    turns = count()
    return lambda candidates: candidates[next(turns) % len(candidates)]


PICKERS: dict[str, Callable[[], SchedulingPolicy]] = {
    "least_in_flight": lambda: SchedulingPolicy(least_in_flight),
    "round_robin": lambda: SchedulingPolicy(round_robin()),
    "soonest": lambda: SchedulingPolicy(shortest_completion, holds_back=True),
}
