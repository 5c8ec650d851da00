"""Ways to choose among candidates; one function each, named in the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from router.scheduling.pipeline import Candidate, Picker


def soonest(candidates: Sequence[Candidate]) -> Candidate:
    """Take the node where the reply is expected to be whole first."""
    return min(candidates, key=lambda c: c.expected_seconds)


def least_in_flight(candidates: Sequence[Candidate]) -> Candidate:
    """Take the node with the fewest requests; ties by expectation."""
    return min(candidates, key=lambda c: (c.in_flight, c.expected_seconds))


def round_robin() -> Picker:
    """Take them in turn: a baseline for benchmarks."""
    turns = count()
    return lambda candidates: candidates[next(turns) % len(candidates)]


PICKERS: dict[str, Callable[[], Picker]] = {
    "least_in_flight": lambda: least_in_flight,
    "round_robin": round_robin,
    "soonest": lambda: soonest,
}
