"""A histogram in plain numbers: one thread of the event loop counts, no lock."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily


class Buckets:
    """Counts by upper edge, as Prometheus means them: a value at an edge is in it."""

    __slots__ = ("_counts", "_edges", "_sum")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: tuple[str, ...]) -> None:
        """Add its rows, unless nothing was observed."""
        if not any(self._counts):
            return
        names = [*(str(float(edge)) for edge in self._edges), "+Inf"]
        counts = accumulate(self._counts)
        family.add_metric(labels, list(zip(names, counts, strict=True)), self._sum)
