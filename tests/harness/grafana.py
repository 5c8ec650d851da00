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
    "Alerts of the budgets": "nothing fires in a fleet that is well",
    "Holds now": "no node is held",
    "annotation Holds": "no node is held",
    "annotation Alerts": "nothing fires in a fleet that is well",
    "annotation Returns": "no node was out",
    "annotation Restarts": "nothing was started again",
    "annotation Upgrades": "no Ollama changed its version",
    "Machine load and memory": "only where node_exporter runs",
    "Disk available": "only where node_exporter runs",
    "Clock skew": "only where node_exporter runs",
    "Collectors work": "only where our exporter runs",
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
    "Models loaded and unloaded": "counted by a steady exporter, not by probes",
    "Oldest request without a token": "first tokens come at once",
    "Pause of a continued stream": "no stream broke",
    "Time to first token, cold": "no model had to be loaded",
    "Load time by model": "no model had to be loaded",
    "Load time, spread": "no model had to be loaded",
    "What more streams at once bring": "learned in time",
    "Power while idle": "no node is idle",
    "Power of idle nodes": "no node is idle",
}
# Read records of each 5 min, and windows of them.
SELDOM = ("history.json",)
SELDOM_TITLES = {
    *("Error budget left of 30 days", "Error budget left over time"),
    *("Objectives and what was reached", "Bad events within a day"),
    *("Energy in the time range", "Cost in the time range", "CO2 in the time range"),
}

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([a-zA-Z_]\w*))")
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
    dashboard: Mapping[str, Any],
    *,
    rate_interval: str = "1m",
    interval: str = "5m",
    span: str = "1h",
    node: str = ".+",
) -> list[tuple[str, str]]:
    """(title, PromQL) of all panels, annotations and variables, variables filled in.

    rate_interval: at least four scrape intervals
    interval, span: of a point, and of the whole time range
    node: a regular expression, as Grafana makes one of the chosen nodes
    """
    asked = legended(
        dashboard, rate_interval=rate_interval, interval=interval, span=span, node=node
    )
    return [(title, expr) for title, _, expr in asked]


def legended(
    dashboard: Mapping[str, Any],
    *,
    rate_interval: str,
    interval: str,
    span: str,
    node: str = ".+",
) -> list[tuple[str, str, str]]:
    """(title, legend, PromQL), as `queries`."""
    values = {
        "__rate_interval": rate_interval,
        "__interval": interval,
        "__range": span,
        **chosen(dashboard),
        "node": node,
    }
    return [
        (title, legend, fill(expr, values))
        for title, legend, expr in _written(dashboard)
    ]


def chosen(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """What stands for each variable at first: "All", or what its box holds."""
    return {
        each["name"]: each.get("allValue") or each["current"]["value"]
        for each in dashboard["templating"]["list"]
    }


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values for `$name` and `${name}`; what has none stays."""
    return _VARIABLE.sub(lambda f: values.get(f[1] or f[2], f[0]), text)


def _written(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["legendFormat"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", "", annotation["target"]["expr"]
    for variable in dashboard["templating"]["list"]:
        found = _LABEL_VALUES.fullmatch(variable.get("definition", ""))
        if found:
            yield f"variable {variable['name']}", "", found["series"]
