"""Labelled counters and histograms in plain numbers: the event loop alone counts.

Those of prometheus_client take a lock for each count and for finding a child, and
that lock is gevent's: both together were a tenth of a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from router.metrics.buckets import Buckets
from router.metrics.families import totals

T = TypeVar("T")

# Clients may ask a node that was never polled for any name.
MOST_CHILDREN = 10_000
OTHER = "other"


class CounterChild:
    """A counter's child."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, by: float = 1) -> None:
        self.value += by


class _Plain(Collector, Generic[T]):
    """Children by the values of their labels.

    Beyond MOST_CHILDREN a model that is new counts under OTHER.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        *,
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        models = (at for at, label in enumerate(labels) if label.endswith("model"))
        self._model = next(models, None)
        self._children: dict[tuple[object, ...], T] = {}
        registry.register(self)

    def labels(self, *values: object) -> T:
        child = self._children.get(values)
        return child if child is not None else self._born(values)

    def _born(self, values: tuple[object, ...]) -> T:
        at = self._model
        if at is not None and len(self._children) >= MOST_CHILDREN:
            values = (*values[:at], OTHER, *values[at + 1 :])
        return self._children.setdefault(values, self._new())

    def _new(self) -> T:
        raise NotImplementedError

    def _rows(self) -> Iterator[tuple[tuple[str, ...], T]]:
        for values, child in list(self._children.items()):
            yield tuple(str(value) for value in values), child


class PlainCounter(_Plain[CounterChild]):
    """Only grows; `name` is without its `_total`."""

    def _new(self) -> CounterChild:
        return CounterChild()

    def collect(self) -> Iterator[Metric]:
        rows = [(values, child.value) for values, child in self._rows()]
        yield totals(self._name, self._text, self._labels, rows)


class PlainHistogram(_Plain[Buckets]):
    """Observes into the buckets whose upper edges are given."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        edges: tuple[float, ...],
        *,
        registry: CollectorRegistry,
    ) -> None:
        super().__init__(name, text, labels, registry=registry)
        self._edges = edges

    def _new(self) -> Buckets:
        return Buckets(self._edges)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, child in self._rows():
            child.add_to(family, values)
        yield family
