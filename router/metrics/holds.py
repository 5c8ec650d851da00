"""What node health tells Prometheus beside the holds themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric

from router.holds.store import HoldStore
from router.metrics.families import gauge, gauges
from router.runtime.turns import in_turns

Pairs = Mapping[tuple[str, str], float]


class HealthCounters:
    """Counters of what was done for node health; one registry for each router."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._verifications = Counter(
            "inferops_verifications",
            "Checks of nodes whose hold waits for one (clear: verified).",
            ("outcome",),
            registry=registry,
        )
        self._evictions = Counter(
            "inferops_evictions",
            "Requests under way that were moved off a node.",
            ("node",),
            registry=registry,
        )
        self._silences = Counter(
            "inferops_silences",
            "Silences posted to Alertmanager, and lifted again, for operators.",
            ("operation", "outcome"),
            registry=registry,
        )

    def verified(self, *, passed: bool) -> None:
        self._verifications.labels("passed" if passed else "failed").inc()

    def evicted(self, node: str, requests: int) -> None:
        self._evictions.labels(node).inc(requests)

    def silenced(self, operation: str, *, done: bool) -> None:
        self._silences.labels(operation, "done" if done else "failed").inc()


class HoldsMetricsView(Protocol):
    """What a scrape reads of control and dispatch."""

    def nodes(self) -> list[str]: ...

    def ramp(self, node: str) -> float:
        """Share of its slots that a node which came back may use."""

    def hold_downs(self) -> Pairs:
        """Seconds that flapping alerts' holds stay proven, by node and alert."""

    def verifying(self) -> list[tuple[str, str]]:
        """Nodes and alerts whose check has not passed yet."""

    def state_files(self) -> Mapping[str, bool]:
        """Whether each file takes what must outlive the router."""

    def ignored(self) -> Mapping[str, int]:
        """Alerts without consequence in the last pass, by reason."""


def health_families(holds: HoldStore, view: HoldsMetricsView) -> Iterator[Metric]:
    """Yield the state of overrides, returns and checks."""
    names = view.nodes()
    yield gauges(
        "inferops_node_factor",
        "What alerts that derate leave of the node: 1 is all of it.",
        ("node",),
        [((name,), holds.factors.get(name, 1.0)) for name in names],
    )
    yield gauges(
        "inferops_node_slow_start_ratio",
        "Share of its slots that a node which came back may use.",
        ("node",),
        [((name,), view.ramp(name)) for name in in_turns(names)],
    )
    labels = ("node", "alertname")
    yield gauges(
        "inferops_override_until_timestamp_seconds",
        "Until when an operator has an alert ignored on the node.",
        labels,
        [(each.key, each.until) for each in holds.overrides.list()],
    )
    yield gauges(
        "inferops_hold_down_seconds",
        "How long the node is to be proven well, since it flaps.",
        labels,
        view.hold_downs().items(),
    )
    yield gauges(
        "inferops_verification_pending",
        "1 while a hold waits for its node to generate.",
        labels,
        [(key, 1.0) for key in view.verifying()],
    )
    yield gauges(
        "inferops_alerts_ignored",
        "Firing alerts with an action that has no consequence.",
        ("reason",),
        [((reason,), n) for reason, n in view.ignored().items()],
    )
    yield gauges(
        "inferops_state_writable",
        "1 while the file takes what must outlive the router.",
        ("file",),
        [((file,), well) for file, well in view.state_files().items()],
    )
    yield gauge(
        "inferops_history_unsaved_failures",
        "Writes of the holds' history that failed since the start.",
        holds.archive_failures,
    )
