"""What a collector yields, as text and as numbers by series."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from exporters.collectors import Collector
from exporters.errors import CollectError


class _Given:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def text(metrics: Iterable[Metric]) -> str:
    """Return what Prometheus would read, from a fresh registry."""
    registry = CollectorRegistry()
    registry.register(_Given(list(metrics)))
    return generate_latest(registry).decode()


def values(exposition: str) -> dict[str, float]:
    """Return the values by series, written `name` or `name{a=b,c=d}`."""
    return {
        series(sample.name, **sample.labels): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def series(name: str, /, **labels: str) -> str:
    inside = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def collected(
    collector: Collector, deadline: float | None = None
) -> tuple[list[Metric], CollectError | None]:
    """Collect once; the error is what the runner would hear."""
    metrics: list[Metric] = []
    if deadline is None:
        deadline = time.monotonic() + 5
    try:
        metrics.extend(collector.collect(deadline))
    except CollectError as error:
        return metrics, error
    return metrics, None
