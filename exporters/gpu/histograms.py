"""Cumulative histograms of samples. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from exporters.gpu.rows import Row


class Histogram:
    """Counts of samples by upper bound, as Prometheus wants them."""

    def __init__(self, name: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def total(self) -> int:
        return sum(self._counts)

    def rows(self) -> Iterator[Row]:
        """Yield the series; none before the first sample."""
        if not self.total:
            return
        below = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            below += count
            limit = "+Inf" if bound is None else f"{float(bound)}"
            yield Row(f"{self._name}_bucket", below, {"le": limit})
        yield Row(f"{self._name}_count", below)
        yield Row(f"{self._name}_sum", self._sum)
