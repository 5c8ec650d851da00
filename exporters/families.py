"""Metric families from rows; a family without rows is not served at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client import Metric


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(slots=True)
class Family:
    """A metric as it is exposed, and its rows: labels and value.

    help names the call that the value comes from.
    """

    name: str
    help: str
    kind: Kind = Kind.GAUGE
    rows: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, about: str, value: float, /, **labels: str) -> Family:
        """Make a gauge of one row."""
        return cls(name, about, rows=[(labels, value)])

    def add(self, value: float, /, **labels: str) -> None:
        self.rows.append((labels, value))

    def metric(self) -> Metric:
        # prometheus_client adds a counter's suffix to the family's name itself.
        metric = Metric(self.name.removesuffix("_total"), self.help, self.kind)
        for labels, value in self.rows:
            metric.add_sample(self.name, dict(labels), value)
        return metric


def metrics(families: Iterable[Family]) -> Iterator[Metric]:
    """Yield those that have rows."""
    return (family.metric() for family in families if family.rows)
