"""The JSON of decisions: why a request waited, or went where it went.

What was expected of each node stands beside what then happened.
"""

from __future__ import annotations

from typing import Any

from router.scheduling.matching import HeldBack
from router.scheduling.pipeline import Candidate, Decision
from router.scheduling.request import Work
from router.scheduling.residency import split
from router.scheduling.trace import DecisionTrace, TraceStep
from router.web.admin.views import iso

_MOST_BETTER = 24  # nodes that are named for which a request waits


def show_decision(decision: Decision) -> dict[str, Any]:
    known = decision.picked or next(iter(decision.candidates), None)
    return {
        "picked": decision.picked.name if decision.picked else None,
        "picker": decision.picker or None,
        "reason": decision.reason if decision.picked else None,
        "waited_seconds": round(decision.waited, 3),
        "head_room": list(decision.reserved[:_MOST_BETTER]),
        "held_back": _show_held_back(decision.held_back),
        "expected_tokens": _show_work(known.work) if known else None,
        "candidates": [_show_candidate(each) for each in decision.candidates],
        "rejected": dict(decision.rejected),
    }


def _show_candidate(candidate: Candidate) -> dict[str, Any]:
    expected = candidate.expected
    return {
        "node": candidate.name,
        "score": round(candidate.view.score.value, 4),
        "in_flight": candidate.in_flight,
        "expected_seconds": round(candidate.expected_seconds, 3),
        "expected": {
            "behind": round(expected.behind, 3),
            "load": round(expected.load, 3),
            "prefill": round(expected.prefill, 3),
            "decode": round(expected.decode, 3),
        },
        "saved_seconds": round(expected.saved, 3),
        "cost": round(candidate.cost, 3),
        "measured": candidate.offer.measured,
        "evicts": [split(runner)[0] for runner in candidate.offer.victims],
    }


def _show_work(work: Work) -> dict[str, int]:
    return {"prompt": round(work.prompt), "answer": round(work.tokens)}


def _show_held_back(held: HeldBack | None) -> dict[str, Any] | None:
    if held is None:
        return None
    return {
        "from": held.free,
        "for": held.better[:_MOST_BETTER],
        "expected_seconds": round(held.seconds, 3),
        "cost_there": round(held.cost, 3),
        "cost_of_waiting": round(held.later, 3),
    }


def _show_step(step: TraceStep, over_at: float | None) -> dict[str, Any]:
    return {
        **show_decision(step.decision),
        "left_out": step.left_out,
        "failure": step.failure,
        "actual": _show_actual(step, over_at),
    }


def _show_actual(step: TraceStep, over_at: float | None) -> dict[str, Any] | None:
    """Show what became of the prediction: seconds since the slot was taken."""
    lease = step.lease
    if lease is None or step.failure:
        return None
    began, first = lease.taken_at, lease.decoding_since
    return {
        "first_token_seconds": round(first - began, 3)
        if first and lease.streams
        else None,
        "seconds": None if over_at is None else round(over_at - began, 3),
    }


def show_trail(trace: DecisionTrace) -> dict[str, Any]:
    return {
        "request_id": trace.request_id,
        "path": trace.path,
        "model": trace.model,
        "at": iso(trace.at),
        "ended": trace.ended,
        "attempts": [_show_step(step, trace.over_at) for step in trace.steps],
    }
