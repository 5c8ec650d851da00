"""The benchmark of a decision decides among every node."""

from __future__ import annotations

from bench.decide import scene
from router.dispatch.pickers import soonest
from router.dispatch.pipeline import Wish, decide


def test_every_node_is_a_candidate():
    """What is timed is a whole decision on a fleet that has learned."""
    decision = decide(Wish("m:latest"), scene(8), soonest)
    assert len(decision.candidates) == 8
    assert decision.picked is not None
    assert decision.picked.in_flight == 2
