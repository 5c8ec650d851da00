"""A figure turns red where its alert fires, and limits are those of the rules."""

from __future__ import annotations

import re
from typing import Any

import pytest

from alerting import slo
from tests.harness import grafana
from tests.rules.catalogue import ALERTS

OVERVIEW = grafana.dashboards()["overview.json"]


def panel(board: Any, title: str) -> Any:
    (found,) = (each for each in grafana.panels(board) if each["title"] == title)
    return found


def red_from(title: str, column: str = "") -> float:
    """Where a panel, or a column of its table, turns red."""
    config = panel(OVERVIEW, title)["fieldConfig"]
    thresholds = config["defaults"].get("thresholds")
    for override in config["overrides"]:
        if column and override["matcher"]["options"] == column:
            found = {each["id"]: each["value"] for each in override["properties"]}
            thresholds = found.get("thresholds", thresholds)
    (value,) = (s["value"] for s in thresholds["steps"] if s["color"] == "red")
    return float(value)


def fires_from(name: str) -> float:
    """The number at the end of an alert's expression."""
    (expr,) = (alert.expr for alert in ALERTS if alert.name == name)
    found = re.search(r">=?\s*([\d.]+)\s*$", expr)
    assert found, expr
    return float(found[1])


@pytest.mark.parametrize(
    ("title", "column", "alert"),
    [
        ("Error ratio", "", "RouterErrorRatioHigh"),
        ("Slots in use", "", "FleetHeadroomLow"),
        ("Snapshot age", "", "RouterSnapshotStale"),
        ("Nodes in detail", "GPU memory", "GpuMemoryNearlyFull"),
    ],
)
def test_red_begins_where_the_alert_fires(title, column, alert):
    """Nobody sees green under a page, or red without an alert to come."""
    assert red_from(title, column) == fires_from(alert)


@pytest.mark.parametrize(
    "pair",
    [pair for urgency in slo.URGENCIES for pair in urgency.pairs if pair.long != "1d"],
    ids=lambda pair: pair.long,
)
def test_burn_rates_have_the_line_of_their_rule(pair):
    """The dashed line is the factor from which people hear of it."""
    board = grafana.dashboards()["slo.json"]
    exprs = [t["expr"] for t in panel(board, f"Burn rate, {pair.long}")["targets"]]
    assert f"vector({pair.factor:g})" in exprs
