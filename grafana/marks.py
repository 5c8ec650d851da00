"""What happened, as marks on every panel: a dip explains itself."""

from __future__ import annotations

from grafana.panels import BLUE, DATASOURCE, ORANGE, PURPLE, RED, YELLOW, Json


def of(*, by_node: bool) -> list[Json]:
    """All marks of a board; of the chosen nodes, where nodes are chosen."""
    node = 'node=~"$node"' if by_node else ""
    target = 'node=~"$node|"' if by_node else ""
    return [
        _mark("Holds", ORANGE, _holds(node), "{{node}}: {{kind}}", "{{source}}"),
        _mark("Alerts", RED, _alerts(target), "{{alertname}}", "{{node}}"),
        _mark("Returns", YELLOW, _returns(node), "{{node}} returns", "slow start"),
        _mark("Restarts", BLUE, _restarts(node), "{{node}} restarted", ""),
        _mark("Configuration", BLUE, _configuration(), "{{file}} loaded", ""),
        _mark("Changes", BLUE, _changes(), "{{action}}", "inferops audit list"),
        _mark("Upgrades", PURPLE, _upgrades(node), "{{node}}", "{{version}}"),
    ]


def _holds(node: str) -> str:
    return f"max by (node, kind, source) (inferops_node_hold{{{node}}})"


def _alerts(target: str) -> str:
    firing = 'alertstate="firing", severity=~"critical|warning"'
    matchers = ", ".join(filter(None, (firing, target)))
    return f"max by (alertname, node) (ALERTS{{{matchers}}})"


def _returns(node: str) -> str:
    return f"max by (node) (inferops_node_slow_start_ratio{{{node}}}) < 1"


def _restarts(node: str) -> str:
    """Machines within 5 min of their boot; the router, by its counters."""
    router = "resets(inferops_control_pass_duration_seconds_count[1m]) > 0"
    return (
        f"time() - max by (node) (node_boot_time_seconds{{{node}}}) < 300\n"
        f'or\nlabel_replace(max({router}), "node", "router", "", "")'
    )


def _configuration() -> str:
    loaded = "inferops_config_last_reload_success_timestamp_seconds"
    return f"time() - max by (file) ({loaded}) < 60"


def _changes() -> str:
    """What people asked for; holds and reloads have marks of their own."""
    noted = 'inferops_audit_last_entry_timestamp_seconds{action=~"(admin|model)[.].+"}'
    return f"time() - max by (action) ({noted}) < 60"


def _upgrades(node: str) -> str:
    """Another version than 5 min ago, of an Ollama that had one."""
    versions = f"node:ollama_version:info{{{node}}}"
    before = f"{versions} offset 5m"
    return f"{versions}\nunless\n{before}\nand on (node)\n{before}"


def _mark(name: str, colour: str, expr: str, title: str, text: str) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "10s",
        # Newer versions read the query here, and only the texts below beside it.
        "target": {"refId": "Anno", "expr": expr, "interval": "10s"},
        "tagKeys": "kind",
        "titleFormat": title,
        "textFormat": text,
        "useValueForTime": False,
    }
