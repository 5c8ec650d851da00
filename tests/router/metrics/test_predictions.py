"""Prediction errors as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.metrics.families import AtScrape
from router.metrics.predictions import prediction_families
from router.scheduling.accuracy import Deviations


def test_error_and_calibration():
    """Expected over actual is the calibration, the absolute error is beside it."""
    answers, seconds, reused = Deviations(), Deviations(), Deviations()
    answers.add("m:latest", 100.0, 150.0)
    answers.add("m:latest", 100.0, 50.0)
    seconds.add("m:latest", 2.0, 3.0)
    reused.add("m:latest", 700.0, 800.0)
    registry = CollectorRegistry()
    stages = {"completion": seconds}
    families = AtScrape(lambda: prediction_families(answers, stages, reused))
    registry.register(families)

    def tokens(kind):
        labels = {"model": "m:latest", "kind": kind}
        return registry.get_sample_value("inferops_prediction_tokens_total", labels)

    assert (200.0, 200.0, 100.0) == tuple(
        tokens(kind) for kind in ("expected", "actual", "absolute_error")
    )
    labels = {"model": "m:latest", "kind": "expected"}
    name = "inferops_prediction_reused_tokens_total"
    assert 700.0 == registry.get_sample_value(name, labels)
    labels = {"model": "m:latest", "stage": "completion", "kind": "absolute_error"}
    missed = registry.get_sample_value("inferops_prediction_seconds_total", labels)
    assert 1.0 == missed
    model = {"model": "m:latest"}
    count = registry.get_sample_value("inferops_prediction_replies_total", model)
    assert 2.0 == count


def test_models_are_bounded():
    """The one that was used longest ago is forgotten."""
    kept = Deviations()
    for number in range(5000):
        kept.add("used", 1.0, 1.0)
        kept.add(f"m{number}", 1.0, 1.0)
    assert 4096 == len(kept.by_model)
    assert 5000 == kept.by_model["used"].replies
