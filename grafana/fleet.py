"""The dashboard "Fleet": for the person on call first, for its owner all the same."""

from __future__ import annotations

from grafana import cards, nodes, overview, slo, telemetry, traffic
from grafana.grid import layout
from grafana.panels import DATASOURCE, Json
from grafana.promql import NODE

# What Grafana 11.6 writes; 12 and 13 migrate it on load, 10 reads it as it is.
SCHEMA_VERSION = 41


def fleet() -> Json:
    return {
        "id": None,
        "uid": "inferops-fleet",
        "title": "Fleet",
        "description": "The fleet behind InferOps' one endpoint.",
        "tags": ["inferops"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "links": [],
        "annotations": {"list": [_holds_on_every_panel()]},
        "templating": {"list": [datasource(), _node()]},
        "panels": layout(
            [
                overview.overview(),
                nodes.scores(),
                nodes.holds(),
                traffic.load(),
                traffic.latency(),
                traffic.tokens(),
                nodes.models(),
                nodes.gpus(),
                cards.load(),
                cards.faults(),
                slo.objectives(),
                telemetry.alerts(),
                telemetry.health(),
                cards.honesty(),
            ]
        ),
    }


def datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "Prometheus", "value": "prometheus"},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


def _node() -> Json:
    values = "label_values(inferops_node_score, node)"
    return {
        "name": "node",
        "label": "Node",
        "type": "query",
        "datasource": DATASOURCE,
        "definition": values,
        "query": {"query": values, "refId": "node"},
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        "refresh": 2,  # on every change of the time range: nodes come and go
        "regex": "",
        "sort": 1,
    }


def _holds_on_every_panel() -> Json:
    """Mark when nodes were out, so that a dip in any panel explains itself."""
    expr = f"max by (node, kind, source) (inferops_node_hold{{{NODE}}})"
    return {
        "name": "Holds",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "orange",
        "expr": expr,
        "step": "10s",
        # Newer versions read the query here, and only the texts below beside it.
        "target": {"refId": "Anno", "expr": expr, "interval": "10s"},
        "tagKeys": "kind",
        "titleFormat": "{{node}}: {{kind}}",
        "textFormat": "{{source}}",
        "useValueForTime": False,
    }
