"""What the dashboards ask Prometheus, ready to be asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.harness.process import ROOT

DASHBOARDS = ROOT / "grafana" / "dashboards"

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
    model: str = "",
) -> list[tuple[str, str, str]]:
    """(title, legend, PromQL), as `queries`; `model`: all where it is empty."""
    values = {
        "__rate_interval": rate_interval,
        "__interval": interval,
        "__range": span,
        **chosen(dashboard),
        "node": node,
    }
    if model:
        values["model"] = model
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
