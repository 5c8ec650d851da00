"""Links from what a panel shows to the board that says more; node and time go along."""

from __future__ import annotations

from collections.abc import Sequence

from grafana.panels import Json, override

# Of a label, the board about it, and the label that the board's variable takes.
ABOUT = {"node": ("node", "node"), "model": ("ollama", "model"), "gpu": ("gpu", "uuid")}
# The variables that a board has, so that a link brings no others.
TAKES = {
    "node": ("node",),
    "ollama": ("node", "model"),
    "gpu": ("node", "gpu"),
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
        _link(label, names, "__field.labels")
        for label in ABOUT
        if f"{{{{{label}}}}}" in legends and ABOUT[label][0] != here
    ]
    if found:
        panel["fieldConfig"]["defaults"]["links"] = found
    return panel


def _table(panel: Json, here: str, names: Sequence[str]) -> Json:
    order = panel["transformations"][-1]["options"]["indexByName"]
    columns = {column.partition("\\")[0] for column in order}
    cells = {
        label: [_link(label, names, "__data.fields")]
        for label in ABOUT
        if label in columns and ABOUT[label][0] != here and _has(label, columns)
    }
    cells |= _hold_links(columns) | _alert_links(columns)
    panel["fieldConfig"]["overrides"] += [
        override("byName", column, {"links": found}) for column, found in cells.items()
    ]
    return panel


def _has(label: str, columns: set[str]) -> bool:
    return ABOUT[label][1] in columns


def _hold_links(columns: set[str]) -> dict[str, list[Json]]:
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


def _alert_links(columns: set[str]) -> dict[str, list[Json]]:
    if not {"alertname", "component"} <= columns:
        return {}
    node = "&var-node=${__data.fields.node}" if "node" in columns else ""
    board = f"/d/{uid('${__data.fields.component}')}?{KEPT}{node}"
    return {
        "alertname": [_away("Runbook", RUNBOOK % "${__data.fields.alertname}")],
        "component": [_to("Board", board)],
    }


def _link(label: str, names: Sequence[str], source: str) -> Json:
    """To the board about a label; what was chosen here stays chosen there."""
    board, value = ABOUT[label]
    kept = [
        f"${{{name}:queryparam}}"
        for name in names
        if name != label and name in TAKES[board]
    ]
    chosen = f"var-{label}=${{{source}.{value}}}"
    url = f"/d/{uid(board)}?{'&'.join([KEPT, chosen, *kept])}"
    return _to(f"${{{source}.{label if label != 'gpu' else value}}} in detail", url)


def _to(title: str, url: str) -> Json:
    return {"title": title, "url": url, "targetBlank": False}


def _away(title: str, url: str) -> Json:
    return {"title": title, "url": url, "targetBlank": True}
