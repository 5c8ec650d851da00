"""A histogram in plain numbers: one thread of the event loop counts, no lock."""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import accumulate

from prometheus_client.core import Exemplar, HistogramMetricFamily


class Buckets:
    """Counts by upper edge, as Prometheus means them: a value at an edge is in it.

    A bucket keeps its newest observation with a trace, as OpenMetrics' exemplar.
    """

    __slots__ = ("_counts", "_edges", "_exemplars", "_sum")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count a value; `trace_id`: of its request, where that is recorded."""
        at = bisect_left(self._edges, value)
        self._counts[at] += 1
        self._sum += value
        if trace_id:
            shown = {"trace_id": trace_id}
            self._exemplars[at] = Exemplar(shown, value, time.time())

    def add_to(self, family: HistogramMetricFamily, labels: tuple[str, ...]) -> None:
        """Add its rows, unless nothing was observed."""
        if not any(self._counts):
            return
        names = [*(str(float(edge)) for edge in self._edges), "+Inf"]
        counts = accumulate(self._counts)
        rows: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for at, (name, count) in enumerate(zip(names, counts, strict=True)):
            shown = self._exemplars.get(at)
            rows.append((name, count, shown) if shown else (name, count))
        family.add_metric(labels, rows, self._sum)
