"""What was predicted of replies beside what then happened, summed by model.

`absolute_error` over `actual` is the relative error; `expected` over `actual` says
whether predictions are too long (over 1) or too short: their calibration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import Metric

from router.metrics.families import Row, totals

_KINDS = (("expected", "expected"), ("actual", "actual"), ("absolute_error", "missed"))


class Deviation(Protocol):
    """What is read of sums (`router.scheduling.accuracy.Deviation`)."""

    replies: int
    expected: float
    actual: float
    missed: float


class Deviations(Protocol):
    @property
    def by_model(self) -> Mapping[str, Deviation]: ...


def prediction_families(
    answers: Deviations, stages: Mapping[str, Deviations], reused: Deviations
) -> Iterator[Metric]:
    """Yield what was predicted and what happened; stages in a request's order."""
    yield totals(
        "inferops_prediction_replies",
        "Replies whose predicted length is counted.",
        ("model",),
        [((model,), each.replies) for model, each in answers.by_model.items()],
    )
    yield totals(
        "inferops_prediction_tokens",
        "Tokens of answers: expected, actual, and by which they were missed.",
        ("model", "kind"),
        _rows(answers, ()),
    )
    yield totals(
        "inferops_prediction_reused_tokens",
        "Tokens of prompts that began as one that the node had read: expected in"
        " its cache, found there, and by which they were missed.",
        ("model", "kind"),
        _rows(reused, ()),
    )
    yield totals(
        "inferops_prediction_seconds",
        "Seconds on the node until the first token and until completion:"
        " expected, actual, and by which they were missed.",
        ("stage", "model", "kind"),
        [row for stage, each in stages.items() for row in _rows(each, (stage,))],
    )


def _rows(deviations: Deviations, first: tuple[str, ...]) -> list[Row]:
    return [
        ((*first, model, kind), float(getattr(each, name)))
        for model, each in deviations.by_model.items()
        for kind, name in _KINDS
    ]
