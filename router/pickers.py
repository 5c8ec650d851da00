"""Policies: how one of the candidates is taken; one function each, and the table.

Below everything else, so that the setting `dispatch.picker` can name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar


class Ranked(Protocol):
    """What a picker may look at; a candidate of the scheduler has more."""

    @property
    def cost(self) -> float: ...

    @property
    def in_flight(self) -> int: ...


C = TypeVar("C", bound=Ranked)


class Picker(Protocol):
    """Takes one of the nodes that have a free slot."""

    def __call__(self, candidates: Sequence[C], /) -> C: ...


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """How a node is chosen.

    pick:       takes one of the nodes that have a free slot
    holds_back: whether a request may wait for a better node than those, and those that
                wait be matched with nodes (`router.scheduling.matching`)
    """

    pick: Picker
    holds_back: bool = False


def shortest_completion(candidates: Sequence[C], /) -> C:
    """Take the node with the least cost of completion."""
    return min(candidates, key=lambda c: c.cost)


def least_in_flight(candidates: Sequence[C], /) -> C:
    """Take the node with the fewest requests; ties by cost."""
    return min(candidates, key=lambda c: (c.in_flight, c.cost))


def round_robin() -> Picker:
    """Take them in turn: a baseline for benchmarks."""
    turns = count()

    def pick(candidates: Sequence[C], /) -> C:
        return candidates[next(turns) % len(candidates)]

    return pick


PICKERS: Mapping[str, Callable[[], SchedulingPolicy]] = {
    "shortest_completion": lambda: SchedulingPolicy(
        shortest_completion, holds_back=True
    ),
    "least_in_flight": lambda: SchedulingPolicy(least_in_flight),
    "round_robin": lambda: SchedulingPolicy(round_robin()),
}
OLD_NAMES = {"soonest": "shortest_completion"}  # accepted until 0.2
