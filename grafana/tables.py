"""Tables of Grafana's classic dashboard JSON, and the transformations they need.

Every query is instant: a table shows now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from grafana.panels import Field, Json, Query, override, panel, targets


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: a query with one series for each row.

    cell: how Grafana draws it: auto, color-background, color-text, gauge
    """

    title: str
    expr: str
    field: Field
    cell: str = "auto"


def joined(title: str, about: str, key: str, columns: Sequence[Column]) -> Json:
    """Show one row for each value of the label `key`, one column for each query."""
    queries = [Query(column.expr, min_step="1m") for column in columns]
    made = _table(title, about, queries, Field("none"))
    made["fieldConfig"]["overrides"] = [
        override(
            "byName",
            column.title,
            {**column.field.properties(), "custom.cellOptions": _cell(column.cell)},
        )
        for column in columns
    ]
    # The join keeps each query's own time: "Time 1", "Time 2", ...
    times = ["Time", *(f"Time {number}" for number in range(1, len(columns) + 1))]
    titles = {
        f"Value #{target['refId']}": column.title
        for target, column in zip(made["targets"], columns, strict=True)
    }
    made["transformations"] = [
        {"id": "joinByField", "options": {"byField": key, "mode": "outer"}},
        _organize([key, *titles], titles, times),
    ]
    return made


def matrix(title: str, about: str, expr: str, field: Field, *, by: str) -> Json:
    """Show nodes by the values of the label `by`, coloured by `field.steps`."""
    made = _table(title, about, [Query(expr)], field)
    if field.steps:
        custom = made["fieldConfig"]["defaults"]["custom"]
        custom["cellOptions"] = _cell("color-background")
    grouping = {
        "columnField": by,
        "rowField": "node",
        "valueField": "Value",
        "emptyValue": "null",
    }
    corner = f"node\\{by}"  # what the transformation calls its first column
    made["transformations"] = [
        {"id": "groupingToMatrix", "options": grouping},
        _organize([corner], {corner: "node"}),
    ]
    return made


def labels(title: str, about: str, expr: str, order: Sequence[str], empty: str) -> Json:
    """Show the labels of each series as a row; the values say nothing."""
    made = _table(title, about, [Query(expr)], Field("none", empty=empty))
    made["transformations"] = [_organize(order, {}, ["Time", "Value"])]
    return made


def _table(title: str, about: str, queries: Iterable[Query], field: Field) -> Json:
    instant = targets(queries, instant=True, form="table")
    made = panel("table", title, about, instant, field)
    made["fieldConfig"]["defaults"]["custom"] = {
        "align": "auto",
        "cellOptions": _cell("auto"),
        "inspect": False,
    }
    made["options"] = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [{"displayName": "node", "desc": False}],
    }
    return made


def _cell(kind: str) -> Json:
    modes = {"color-background": "basic", "gauge": "basic"}
    return {"type": kind} | ({"mode": modes[kind]} if kind in modes else {})


def _organize(
    order: Sequence[str], titles: Mapping[str, str], hidden: Iterable[str] = ()
) -> Json:
    return {
        "id": "organize",
        "options": {
            "excludeByName": dict.fromkeys(hidden, True),
            "indexByName": {name: index for index, name in enumerate(order)},
            "renameByName": dict(titles),
        },
    }
