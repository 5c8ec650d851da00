"""What the router tells Prometheus: its counters, and its state at each scrape."""

from __future__ import annotations

from router.metrics.counters import Metrics
from router.metrics.fleet import FleetCollector

__all__ = ["FleetCollector", "Metrics"]
