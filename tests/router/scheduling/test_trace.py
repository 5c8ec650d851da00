"""What is kept of a decision: all of it in a small fleet, the best of a large one."""

from __future__ import annotations

from router.scheduling.pipeline import Decision
from router.scheduling.trace import TraceStep
from tests.router.scheduling.offering import candidate


def decision(candidates, rejected):
    found = tuple(candidate(f"n{n}", 1.0 + n) for n in reversed(range(candidates)))
    reasons = {f"r{n}": "busy" for n in range(rejected)}
    return Decision(found[-1] if found else None, found, reasons)


def test_a_small_fleet_is_kept_whole():
    """Every node with its reason."""
    made = decision(24, 40)
    step = TraceStep.of(made)
    assert step.decision is made
    assert step.left_out == 0


def test_of_a_large_fleet_the_best_are_kept():
    """Who was taken, who was next, some reasons, and how many are not told."""
    made = decision(600, 400)
    step = TraceStep.of(made)
    assert step.decision.picked is made.picked
    assert [c.name for c in step.decision.candidates] == [f"n{n}" for n in range(24)]
    assert len(step.decision.rejected) == 40
    assert step.left_out == 600 - 24 + 400 - 40


def test_barred_nodes_are_named_with_their_reason():
    """They have a free slot: `busy` would be wrong."""
    made = Decision(None, (), {}, ("f",), ("b",))
    assert made.busy
    assert "busy" == made.rejected["f"]
    assert "evict" in made.rejected["b"]


def test_of_many_barred_nodes_some_are_kept():
    """All reasons together are bounded."""
    names = tuple(f"b{n}" for n in range(100))
    step = TraceStep.of(Decision(None, (), {"r": "cordon: fan"}, ("f",), names))
    assert 40 == len(step.decision.rejected)
    assert 62 == step.left_out
