"""Panels of Grafana's classic dashboard JSON, as plain values.

Knows Grafana and nothing of this fleet; reads and writes no file. Only options
that Grafana 10 to 13 share are used.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
GREEN, BLUE, ORANGE, RED, PURPLE = "green", "blue", "orange", "red", "purple"
YELLOW, LIGHT_BLUE = "yellow", "light-blue"

# What stands in a panel that asks well and gets nothing.
NOTHING = "no samples"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, and the legend of its series as `{{label}}`.

    min_step: between points; widens `$__rate_interval`, for figures that must not
              jump about
    """

    expr: str
    legend: str = ""
    min_step: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """How values read.

    steps: the colour from a value on, ascending; the first holds below it, too
    words: text and colour by value, for states; of labels, by text
    empty: what stands there when nothing answers
    """

    unit: str
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    steps: Sequence[tuple[float, str]] = ()
    words: Mapping[int, tuple[str, str]] | Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )
    empty: str = ""

    def properties(self) -> Json:
        """Only what was asked for, by the names of `fieldConfig.defaults`."""
        texts = {
            str(value): {"color": colour, "index": index, "text": text}
            for index, (value, (text, colour)) in enumerate(self.words.items())
        }
        everything = {
            "unit": self.unit,
            "decimals": self.decimals,
            "min": self.low,
            "max": self.high,
            "thresholds": thresholds(self.steps) if self.steps else None,
            "mappings": [{"type": "value", "options": texts}] if texts else None,
            "noValue": self.empty or None,
        }
        return {name: each for name, each in everything.items() if each is not None}


def thresholds(steps: Iterable[tuple[float, str]]) -> Json:
    """Give colours by value; Grafana wants the first step to begin at nothing."""
    return {
        "mode": "absolute",
        "steps": [
            {"color": colour, "value": value if index else None}
            for index, (value, colour) in enumerate(steps)
        ],
    }


def panel(
    kind: str, title: str, about: str, targets: Sequence[Json], field: Field
) -> Json:
    """Give what all panels share; `id` and `gridPos` come with the layout."""
    mode = "thresholds" if field.steps or field.words else "palette-classic"
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "targets": list(targets),
        "fieldConfig": {
            "defaults": {
                "color": {"mode": mode},
                "noValue": NOTHING,
                **field.properties(),
            },
            "overrides": [],
        },
    }


def targets(
    queries: Iterable[Query], *, instant: bool, form: str = "time_series"
) -> list[Json]:
    """Give each query its letter."""
    return [
        {
            "refId": letter,
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "format": form,
            "instant": instant,
            "range": not instant,
            "legendFormat": query.legend or "__auto",
        }
        | ({"interval": query.min_step} if query.min_step else {})
        for letter, query in zip(string.ascii_uppercase, queries, strict=False)
    ]


def override(matcher: str, which: str, properties: Mapping[str, Any]) -> Json:
    """Read the matched fields in another way; `matcher`: byName, byRegexp."""
    return {
        "matcher": {"id": matcher, "options": which},
        "properties": [
            {"id": name, "value": each} for name, each in properties.items()
        ],
    }


def stat(
    title: str,
    about: str,
    queries: Sequence[Query],
    field: Field,
    *,
    colours: Mapping[str, Sequence[tuple[float, str]]] | None = None,
    units: Mapping[str, str] | None = None,
) -> Json:
    """Show figures of now; instant, so that a dead source shows no old value.

    colours, units: of their own for the queries with these legends
    """
    made = panel("stat", title, about, targets(queries, instant=True), field)
    made["fieldConfig"]["overrides"] = [
        override("byName", legend, {"thresholds": thresholds(steps)})
        for legend, steps in (colours or {}).items()
    ] + [
        override("byName", legend, {"unit": unit})
        for legend, unit in (units or {}).items()
    ]
    made["options"] = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto" if len(queries) == 1 else "value_and_name",
    }
    return made


def figure(title: str, about: str, expr: str, field: Field) -> Json:
    """Show one figure, steady from one refresh to the next."""
    return stat(title, about, [Query(expr, min_step="1m")], field)


def in_blue(unit: str, decimals: int, empty: str) -> Field:
    """Give the field of a figure that is neither good nor bad."""
    return Field(unit, decimals, steps=[(0, BLUE)], empty=empty)


def timeseries(
    title: str,
    about: str,
    queries: Sequence[Query],
    field: Field,
    *,
    stacked: bool = False,
    dashed: str = "",
) -> Json:
    """Show lines over time; `dashed`: pattern of the names that are limits."""
    made = panel("timeseries", title, about, targets(queries, instant=False), field)
    made["fieldConfig"]["defaults"]["custom"] = {
        "drawStyle": "line",
        "fillOpacity": 30 if stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
    }
    if dashed:
        line = {"custom.lineStyle": {"dash": [8, 8], "fill": "dash"}}
        made["fieldConfig"]["overrides"] = [
            override("byRegexp", dashed, line | {"custom.fillOpacity": 0})
        ]
    made["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def renamed(made: Json, pattern: str, to: str) -> Json:
    """Shorten names in a panel's legend; `pattern`: a regular expression in slashes."""
    options = {"regex": pattern, "renamePattern": to}
    return made | {"transformations": [{"id": "renameByRegex", "options": options}]}


def timeline(title: str, about: str, queries: Sequence[Query], field: Field) -> Json:
    """Show a band of states over time for each series."""
    made = panel("state-timeline", title, about, targets(queries, instant=False), field)
    made["fieldConfig"]["defaults"]["custom"] = {"fillOpacity": 75, "lineWidth": 0}
    made["options"] = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.85,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return made


def heatmap(
    title: str, about: str, expr: str, field: Field, *, min_step: str = ""
) -> Json:
    """Show a histogram over time; `expr` yields its cumulative buckets by `le`."""
    query = Query(expr, "{{le}}", min_step)
    buckets = targets([query], instant=False, form="heatmap")
    made = panel("heatmap", title, about, buckets, field)
    made["options"] = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "exponent": 0.5,
            "fill": "dark-orange",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Oranges",
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": field.unit},
    }
    return made
