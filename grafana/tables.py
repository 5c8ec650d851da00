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
    if field.steps or field.words:
        custom = made["fieldConfig"]["defaults"]["custom"]
        custom["cellOptions"] = _cell("color-background")
    corner = f"node\\{by}"  # what the transformation calls its first column
    made["transformations"] = [
        _grouping(by, "node"),
        _organize([corner], {corner: "node"}),
    ]
    return made


def heat(
    title: str,
    about: str,
    expr: str,
    field: Field,
    *,
    row: tuple[str, Mapping[int, str]],
    column: tuple[str, Sequence[str]],
) -> Json:
    """Show a grid of two labels, the darker the more.

    row: the label and its values in words; column: the label and its values in order
    """
    (down, words), (across, order) = row, column
    made = _table(title, about, [Query(expr)], field)
    defaults = made["fieldConfig"]["defaults"]
    defaults["color"] = {"mode": "continuous-BlPu"}
    defaults["custom"] |= {"cellOptions": _cell("color-background"), "minWidth": 40}
    texts = {
        str(value): {"index": value, "text": text} for value, text in words.items()
    }
    plain = {"custom.cellOptions": _cell("auto")}
    mapped = {"mappings": [{"type": "value", "options": texts}]}
    made["fieldConfig"]["overrides"] = [override("byName", down, plain | mapped)]
    corner = f"{down}\\{across}"
    made["transformations"] = [
        _grouping(across, down),
        _organize([corner, *order], {corner: down}),
    ]
    made["options"]["sortBy"] = [{"displayName": down, "desc": False}]
    return made


def labels(
    title: str,
    about: str,
    expr: str,
    order: Sequence[str],
    empty: str,
    *,
    fields: Mapping[str, Field] | None = None,
) -> Json:
    """Show the labels of each series as a row; the values say nothing.

    fields: how the values of these labels read
    """
    made = _table(title, about, [Query(expr)], Field("none", empty=empty))
    made["fieldConfig"]["overrides"] = [
        override(
            "byName", label, {**field.properties(), "custom.cellOptions": COLOURED}
        )
        for label, field in (fields or {}).items()
    ]
    made["transformations"] = [_organize(order, {}, ["Time", "Value"])]
    return made


def _grouping(column: str, row: str) -> Json:
    grouping = {
        "columnField": column,
        "rowField": row,
        "valueField": "Value",
        "emptyValue": "null",
    }
    return {"id": "groupingToMatrix", "options": grouping}


COLOURED = {"type": "color-text"}


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
