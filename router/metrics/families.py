"""Metric families made for one scrape, from rows of labels and value."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Row = tuple[tuple[str, ...], float]


def gauges(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[Row]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def totals(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[Row]
) -> Metric:
    """Return counters; `name` is without its `_total`."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
