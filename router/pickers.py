"""Policies: how one of the candidates is taken; one function each, and the table.

Below everything else, so that the setting `dispatch.picker` can name them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Protocol, TypeVar


class Ranked(Protocol):
    """What a picker may look at; a candidate of the scheduler has more."""

    @property
    def cost(self) -> float: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def session(self) -> str: ...


C = TypeVar("C", bound=Ranked)
_LEAST_SCORE = 0.01


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


def weighted_least_in_flight(candidates: Sequence[C], /) -> C:
    """Take the node with the fewest requests for its score."""
    return min(candidates, key=lambda c: (c.in_flight + 1) / max(_LEAST_SCORE, c.score))


def best_score(candidates: Sequence[C], /) -> C:
    """Take the node with the best weighted score, whatever runs there."""
    return max(candidates, key=lambda c: c.score)


def same_node(candidates: Sequence[C], /) -> C:
    """Take the node that the session's earlier requests went to, while it is free.

    Rendezvous hashing: a node that comes or goes moves its own sessions only.
    """

    def place(candidate: C) -> bytes:
        text = f"{candidate.session}\n{candidate.name}"
        return blake2b(text.encode(), digest_size=8).digest()

    return max(candidates, key=place)


def power_of_two() -> Picker:
    """Take the less busy of two that are drawn."""
    draw = _seeded()

    def pick(candidates: Sequence[C], /) -> C:
        return least_in_flight(draw.sample(candidates, min(2, len(candidates))))

    return pick


def at_random() -> Picker:
    """Take any."""
    draw = _seeded()

    def pick(candidates: Sequence[C], /) -> C:
        return draw.choice(candidates)

    return pick


def _seeded() -> random.Random:
    return random.Random(0)  # noqa: S311 - spreads load, guards nothing


def round_robin() -> Picker:
    """Take them in turn."""
    turns = count()

    def pick(candidates: Sequence[C], /) -> C:
        return candidates[next(turns) % len(candidates)]

    return pick


PICKERS: Mapping[str, Callable[[], SchedulingPolicy]] = {
    "shortest_completion": lambda: SchedulingPolicy(
        shortest_completion, holds_back=True
    ),
    "least_in_flight": lambda: SchedulingPolicy(least_in_flight),
    "weighted_least_in_flight": lambda: SchedulingPolicy(weighted_least_in_flight),
    "power_of_two": lambda: SchedulingPolicy(power_of_two()),
    "score": lambda: SchedulingPolicy(best_score),
    "session": lambda: SchedulingPolicy(same_node),
    "random": lambda: SchedulingPolicy(at_random()),
    "round_robin": lambda: SchedulingPolicy(round_robin()),
}
DEFAULT = "shortest_completion"
OLD_NAMES = {"soonest": "shortest_completion"}  # accepted until 0.2


class Policies:
    """Which policy a request is scheduled by: its own, its model's, or the usual one.

    by_model: names of policies by canonical name of model
    """

    def __init__(
        self, usual: str = DEFAULT, by_model: Mapping[str, str] | None = None
    ) -> None:
        self.usual = usual
        self.by_model = dict(by_model or {})
        self._made = {name: make() for name, make in PICKERS.items()}

    def name(self, model: str, asked: str = "") -> str:
        return asked or self.by_model.get(model, self.usual)

    def of(self, name: str) -> SchedulingPolicy:
        """Return a policy; no name is the usual one."""
        return self._made[name or self.usual]
