"""`/boards` in a real Chromium: what it does with a board that is not ours."""

from __future__ import annotations

import json
import time

import pytest

from tests.harness import board_page
from tests.harness.browser import chromium
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e


def panel(number, kind, **more):
    """A panel of Grafana's classic JSON that asks nothing."""
    return {
        "id": number,
        "type": kind,
        "title": f"panel {number}",
        "description": "",
        "gridPos": {"x": 0, "y": 4 * number, "w": 24, "h": 4},
        "fieldConfig": {"defaults": {"noValue": "none"}, "overrides": []},
        "options": {},
        "targets": [],
        **more,
    }


ODD = panel(2, "table", transformations=[{"id": "calculateField", "options": {}}])
ODD["fieldConfig"] = {
    "defaults": {"unit": "furlongs", "noValue": "none"},
    "overrides": [
        {
            "matcher": {"id": "byType", "options": "number"},
            "properties": [
                {"id": "custom.cellOptions", "value": {"type": "sparkline"}}
            ],
        }
    ],
}
ASKS = panel(4, "stat", options={"textMode": "auto"})
ASKS["targets"] = [{"refId": "A", "expr": "up", "instant": True, "legendFormat": ""}]
BOARD = {
    "uid": "odd",
    "title": "Odd",
    "refresh": "1h",
    "time": {"from": "now-5m", "to": "now"},
    "annotations": {"list": []},
    "templating": {
        "list": [
            {
                "name": "prometheus_url",
                "type": "textbox",
                "query": "http://127.0.0.1:9090",
                "hide": 2,
            }
        ]
    },
    "panels": [
        panel(1, "geomap"),
        ODD,
        panel(3, "text", options={"content": "<b>as it is</b>"}),
        ASKS,
    ],
}


def test_what_it_cannot_draw_is_named(tmp_path):
    """Kinds, transformations, units, overrides, cells; a Prometheus that is away."""
    folder = tmp_path / "boards"
    folder.mkdir()
    (folder / "odd.json").write_text(json.dumps(BOARD))
    with (
        SimulatedFleet(tmp_path / "fleet", [Simulated("one")]) as fleet,
        Router(
            tmp_path,
            fleet.inventory,
            prometheus_port=free_port(),
            settings={"WEB__BOARDS": str(folder)},
        ) as router,
        chromium(router.url, (1280, 900), tmp_path) as page,
    ):
        board_page.open_board(page, "odd", time.time() - 300)
        kind, odd = board_page.unable(page)
        assert "panels of type geomap" in kind
        assert "Grafana can" in kind
        for each in (
            "the transformation calculateField",
            "the unit furlongs",
            "overrides byType",
            "cells of type sparkline",
        ):
            assert each in odd
        assert "<b>as it is</b>" in page.run("return document.body.innerText")
        faults = [each.text for each in page.css(".fault") if each.text]
        assert len(faults) == 1
        assert faults[0].startswith("Prometheus: ")
