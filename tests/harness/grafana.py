"""What the dashboards ask Prometheus, ready to be asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.harness.process import ROOT

DASHBOARDS = ROOT / "grafana" / "dashboards"

# Titles whose queries may rightly answer nothing while the fleet is well and
# clients stream; every other one must answer.
RIGHTLY_EMPTY: Mapping[str, str] = {
    "Alerts firing now": "nothing fires in a fleet that is well",
    "Holds now": "no node is held",
    "annotation Holds": "no node is held",
    "Machine load and memory": "only where node_exporter runs",
    "GPU duty cycle": "only by our exporter on a card",
    "GPU power: mean, extremes and limit": "extremes only by our exporter on a card",
    "SM, tensor and memory activity": "only on Hopper and newer, by our exporter",
    "PCIe and NVLink": "only by our exporter on a card, NVLink where there are links",
    "GPU clocks": "the simulator has no clock of the memory",
    "Throttling by reason": "by as many reasons as a source knows",
    "ECC errors": "only cards with ECC",
    "Remapped rows and retired pages": "rows from Ampere on, pages before",
    "What the driver asks for": "as much of it as a card and its driver know",
    "PCIe replays and NVLink errors": "only where a source counts them",
    "GPUs that are seen": "instances only in MIG mode",
    "GPU telemetry works": "single cards only by our exporter",
    "How closely the driver samples": "only by our exporter on a card",
    "Late ticks of the sampler": "only by our exporter on a card",
    "Driver calls that failed": "none in a fleet that is well",
    "Time left": "no job runs",
    "Time left and lag": "no job runs",
    "Item duration": "no job runs",
}

_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), *\w+\)")


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards by file name."""
    return {path.name: load(path) for path in sorted(DASHBOARDS.glob("*.json"))}


def load(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return dashboard


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every panel that shows data, which the titles of rows do not."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(
    dashboard: Mapping[str, Any], *, rate_interval: str = "1m", node: str = ".+"
) -> list[tuple[str, str]]:
    """(title, PromQL) of all panels, annotations and variables, variables filled in.

    rate_interval: at least four scrape intervals
    node: a regular expression, as Grafana makes one of the chosen nodes
    """
    return [
        (title, expr.replace("$__rate_interval", rate_interval).replace("$node", node))
        for title, expr in _written(dashboard)
    ]


def _written(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["target"]["expr"]
    for variable in dashboard["templating"]["list"]:
        found = _LABEL_VALUES.fullmatch(variable.get("definition", ""))
        if found:
            yield f"variable {variable['name']}", found["series"]
