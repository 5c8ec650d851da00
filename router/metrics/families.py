"""Metric families made for one scrape, from rows of labels and value."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.runtime.turns import in_turns

Row = tuple[tuple[str, ...], float]


def gauges(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[Row]
) -> Metric:
    """Return gauges; of what others write to, `rows` are a copy."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in in_turns(rows):
        family.add_metric(values, value)
    return family


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def totals(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[Row]
) -> Metric:
    """Return counters; `name` is without its `_total`."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in in_turns(rows):
        family.add_metric(values, value)
    return family


class AtScrape(Collector):
    """Families that are made of what others count, whenever they are asked for."""

    def __init__(self, make: Callable[[], Iterable[Metric]]) -> None:
        self._make = make

    def collect(self) -> Iterable[Metric]:
        return self._make()
