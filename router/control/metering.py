"""Reads the cards' energy counters from Prometheus, with the time of each scrape."""

from __future__ import annotations

from collections.abc import Mapping

from router.clients.prometheus import Prometheus
from router.usage.energy import MeterReading

ENERGY = """\
  label_replace(node_gpu:energy:joules, "is", "joules", "", "")
or
  label_replace(node_gpu:energy_read:timestamp_seconds, "is", "at", "", "")"""


def read_meters(prometheus: Prometheus, now: float) -> tuple[MeterReading, ...]:
    """Return the meters' readings, with times on the clock of `now`.

    Raises PrometheusError.
    """
    at = prometheus.now()
    found: dict[tuple[str, str], dict[str, float]] = {}
    for sample in prometheus.query(ENERGY, at):
        key = _key(sample.labels)
        if key is not None and sample.finite:
            found.setdefault(key, {})[sample.labels["is"]] = sample.value
    return tuple(
        MeterReading(node, card, now - (at - each["at"]), each["joules"])
        for (node, card), each in found.items()
        if each.keys() == {"at", "joules"}
    )


def _key(labels: Mapping[str, str]) -> tuple[str, str] | None:
    node, card = labels.get("node"), labels.get("uuid")
    return (node, card) if node and card else None
