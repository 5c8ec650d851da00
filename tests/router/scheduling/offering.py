"""Offers of nodes for tests of decisions."""

from __future__ import annotations

from router.model import Node, Score
from router.scheduling.completion import Offer
from router.scheduling.pipeline import Candidate
from router.scheduling.request import Work
from router.snapshot import NodeView


def offer(node: str | NodeView, **given) -> Offer:
    """Make an offer of an idle, measured node that writes a token in 10 ms."""
    if isinstance(node, str):
        node = NodeView(Node(node, f"http://{node}:1"), Score(0.5))
    usual = {
        "streams": 0,
        "load": 0.0,
        "ready_at": 0.0,
        "per_prompt_token": 0.0003,
        "per_token": 0.01,
        "slowed": 0.0,
        "running": 0,
        "arrivals": 0.0,
        "lengths": 0.0,
        "read_until": 0.0,
        "measured": True,
    }
    return Offer(node, **{**usual, **given})


def candidate(node: str | NodeView, seconds: float = 1.0) -> Candidate:
    """Make a candidate whose answer takes so many seconds."""
    work = Work(0.0, 100.0, 20_000.0)
    made = offer(node, per_token=seconds / 100)
    return Candidate(made, work, made.cost(work, 0.0, 100.0, 0.0), 0.0)
