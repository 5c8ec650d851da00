"""Links from what a panel shows to the board that says more; node and time go along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana.panels import Json, override

# Of a label, the board about it, and the variable there that takes its value.
ABOUT = {"node": ("node", "node"), "model": ("ollama", "model"), "uuid": ("gpu", "gpu")}
# The variables that a board has, so that a link brings no others.
TAKES = {
    "node": ("node",),
    "ollama": ("node", "model"),
    "gpu": ("node", "gpu"),
    "router": ("node",),
}
# Columns about a node that another board shows in depth.
COLUMNS = {
    **dict.fromkeys(("GPU heat", "GPU busy", "GPU memory"), "gpu"),
    "resident": "ollama",
    "attempts/s": "router",
}
KEPT = (
    "${__url_time_range}&${datasource:queryparam}"
    "&${router_url:queryparam}&${prometheus_url:queryparam}"
)
RUNBOOK = "${prometheus_url}/user/%s.md"


def uid(component: str) -> str:
    return f"inferops-{component}"


def between_boards(tag: str) -> Json:
    """A list of all boards at the top of each; the choices go along."""
    return {
        "type": "dashboards",
        "title": "Boards",
        "tags": [tag],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
    }


def linked(panel: Json, here: str, names: Sequence[str]) -> Json:
    """Add the links that a panel's labels call for.

    here: component of the panel's own board; names: its variables
    """
    if panel["type"] == "row":
        return panel
    if panel["type"] == "table":
        return _table(panel, here, names)
    legends = " ".join(target["legendFormat"] for target in panel["targets"])
    found = [
        _about(label, [label], names, "__field.labels")
        for label in ABOUT
        if f"{{{{{label}}}}}" in legends and ABOUT[label][0] != here
    ]
    if found:
        panel["fieldConfig"]["defaults"]["links"] = found
    return panel


def _table(panel: Json, here: str, names: Sequence[str]) -> Json:
    organized = panel["transformations"][-1]["options"]
    titles = organized["renameByName"]
    columns = [titles.get(name, name) for name in organized["indexByName"]]
    cells = {
        label: [_about(label, columns, names, "__data.fields")]
        for label in ABOUT
        if label in columns and ABOUT[label][0] != here
    }
    if "node" in columns:
        cells |= {
            column: [_board(board, "node", names)]
            for column, board in COLUMNS.items()
            if column in columns
        }
    cells |= _hold_links(columns) | _alert_links(columns, names)
    panel["fieldConfig"]["overrides"] += [
        override("byName", column, {"links": found}) for column, found in cells.items()
    ]
    return panel


def _hold_links(columns: Sequence[str]) -> dict[str, list[Json]]:
    if "runbook" not in columns:
        return {}
    node = "${router_url}/admin/nodes/${__data.fields.node}"
    return {
        "runbook": [_away("Runbook", RUNBOOK % "${__data.fields.runbook}")],
        "source": [
            _away("This node's holds and score, by the router", node),
            _away("Explain the newest decisions", "${router_url}/admin/explain"),
        ],
    }


def _alert_links(columns: Sequence[str], names: Sequence[str]) -> dict[str, list[Json]]:
    """The alert's runbook, and its board; an alert without a node must bring none."""
    if not {"alertname", "component"} <= set(columns):
        return {}
    board = uid("${__data.fields.component}")
    kept = "".join(f"&${{{name}:queryparam}}" for name in names if name == "node")
    return {
        "alertname": [_away("Runbook", RUNBOOK % "${__data.fields.alertname}")],
        "component": [_to("Board", f"/d/{board}?{KEPT}{kept}")],
    }


def _about(
    label: str, labels: Sequence[str], names: Sequence[str], source: str
) -> Json:
    """To the board about a label; what was chosen here stays chosen there.

    labels: what the row has; its node goes along
    """
    board, _ = ABOUT[label]
    brought = [label, *(["node"] if "node" in labels and label != "node" else [])]
    values = {ABOUT[each][1]: f"${{{source}.{each}}}" for each in brought}
    return _to(f"${{{source}.{label}}} in detail", _address(board, values, names))


def _board(board: str, label: str, names: Sequence[str]) -> Json:
    value = f"${{__data.fields.{label}}}"
    return _to(f"{value} in detail", _address(board, {label: value}, names))


def _address(board: str, values: Mapping[str, str], names: Sequence[str]) -> str:
    chosen = [f"var-{name}={value}" for name, value in values.items()]
    kept = [
        f"${{{name}:queryparam}}"
        for name in names
        if name not in values and name in TAKES[board]
    ]
    return f"/d/{uid(board)}?{'&'.join([KEPT, *chosen, *kept])}"


def _to(title: str, url: str) -> Json:
    return {"title": title, "url": url, "targetBlank": False}


def _away(title: str, url: str) -> Json:
    return {"title": title, "url": url, "targetBlank": True}
