"""Counters and histograms in plain numbers, and the bound on clients' label values."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.metrics.plain import MOST_CHILDREN, OTHER, PlainCounter, PlainHistogram


def samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """All values, by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_a_flood_of_models_ends_in_one() -> None:
    """Known ones go on; the sum stays true."""
    registry = CollectorRegistry()
    asked = PlainCounter("asked", "Asked.", ("node", "model"), registry=registry)
    for number in range(MOST_CHILDREN + 50):
        asked.labels("n", f"m{number}").inc()
    asked.labels("n", "m0").inc()
    counts = samples(registry)
    assert len(counts) == MOST_CHILDREN + 1
    assert counts["asked_total", "n", "m0"] == 2
    assert counts["asked_total", "n", OTHER] == 50


def test_labels_without_a_model_are_ours() -> None:
    """They are enumerations: nothing to bound."""
    registry = CollectorRegistry()
    done = PlainCounter("done", "Done.", ("reason",), registry=registry)
    assert done.labels("x") is done.labels("x")
    done.labels("x").inc(2.5)
    assert samples(registry) == {("done_total", "x"): 2.5}


def test_a_histogram_counts_up_to_its_edges() -> None:
    """A value at an edge is in it; label values of any kind become text."""
    registry = CollectorRegistry()
    took = PlainHistogram("took", "Took.", ("code",), (1, 2), registry=registry)
    for value in (0.5, 1, 1.5, 9):
        took.labels(200).observe(value)
    assert samples(registry) == {
        ("took_bucket", "200", "1.0"): 2,
        ("took_bucket", "200", "2.0"): 3,
        ("took_bucket", "200", "+Inf"): 4,
        ("took_count", "200"): 4,
        ("took_sum", "200"): 12,
    }
