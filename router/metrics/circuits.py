"""What circuits tell Prometheus: which are open, and what was counted of each node."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from router.health.circuits import Circuits
from router.metrics.families import gauges, totals

ALL_MODELS = "all"  # the label of a node's own circuit; a model's name has a tag


def circuit_families(circuits: Circuits) -> Iterator[Metric]:
    """Yield the state of circuits; those that are clean have no series."""
    yield gauges(
        "inferops_circuit_open",
        "1 while a node (model: all), or a model on it, gets no requests because"
        " they failed there.",
        ("node", "model"),
        [
            ((each.node, each.model or ALL_MODELS), float(each.circuit.is_open))
            for each in circuits.shown()
        ],
    )
    yield totals(
        "inferops_circuit_failures",
        "Failures that speak of a node, or of a model on it.",
        ("node", "cause"),
        list(circuits.failures.items()),
    )
    yield totals(
        "inferops_circuit_openings",
        "How often a circuit of the node, or of a model on it, opened.",
        ("node",),
        [((node,), count) for node, count in circuits.openings.items()],
    )
    yield totals(
        "inferops_circuit_trials",
        "Small generations that open circuits were tried by.",
        ("node", "outcome"),
        list(circuits.trials.items()),
    )
