"""Queries to the usage ledger, and its reports with costs; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

GROUPS = {
    "principal": "principal, name",
    "model": "model",
    "node": "node",
    "day": "date(at, 'unixepoch')",
}
_NAMES = {"principal": ("principal", "name")}
SUMS = (
    *("requests", "failed", "tokens_in", "tokens_out", "queue_seconds"),
    *("prefill_seconds", "decode_seconds", "node_seconds", "joules", "unmetered"),
)
# A job's item that was preempted, or overtaken by a copy, has not failed.
_SUMS = (
    "count(*), sum(outcome NOT IN ('end', 'running', 'client_gone', 'revoked')),"
    " sum(tokens_in), sum(tokens_out), sum(queue_seconds), sum(prefill_seconds),"
    " sum(decode_seconds), sum(node_seconds), total(joules), sum(joules IS NULL)"
)
NODE_TOTALS = (
    "SELECT node, sum(metered), sum(idle) FROM node_energy WHERE day >= ? AND day <= ?"
    " AND (? = '' OR node = ?) GROUP BY node ORDER BY node"
)
_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices, in any one currency."""

    per_kwh: float = 0.0
    per_node_hour: float = 0.0

    def energy(self, joules: float) -> float:
        return joules / _JOULES_PER_KWH * self.per_kwh

    def of(self, joules: float, node_seconds: float) -> float:
        return self.energy(joules) + node_seconds / 3600 * self.per_node_hour


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Requests that arrived in [since, before), unix seconds; empty texts match all.

    by:     names of `GROUPS`
    meters: whether the energy of nodes is included
    """

    since: float
    before: float
    by: tuple[str, ...] = ("principal",)
    principal: str = ""
    model: str = ""
    node: str = ""
    meters: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns that identify a group."""
        return tuple(name for group in self.by for name in _NAMES.get(group, (group,)))

    @property
    def days(self) -> tuple[str, str]:
        """Return the first and the last day of the range."""
        return _day(self.since), _day(max(self.since, self.before - 0.001))


# Sums up the ledger for a query; raises StateError.
Report = Callable[[UsageQuery], dict[str, Any]]


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def statement(query: UsageQuery) -> tuple[str, list[object]]:
    """Return SQL and its values; a client's input is always a value, never SQL."""
    columns = ", ".join(GROUPS[group] for group in query.by)
    where, values = ["at >= ?", "at < ?"], [query.since, query.before]
    found: list[object] = [*values]
    for column in ("principal", "model", "node"):
        wanted = getattr(query, column)
        if wanted:
            where.append(f"{column} = ?")
            found.append(wanted)
    text = (
        f"SELECT {columns}, {_SUMS} FROM requests"  # noqa: S608 - names of GROUPS
        f" WHERE {' AND '.join(where)} GROUP BY {columns} ORDER BY {columns}"
    )
    return text, found


def shown(
    query: UsageQuery,
    rows: Iterable[Sequence[Any]],
    nodes: Iterable[Sequence[Any]],
    prices: Prices,
) -> dict[str, Any]:
    """Return the report as a JSON value."""
    groups = [_group(query, row, prices) for row in rows]
    meters = [
        {
            "node": node,
            "metered_joules": metered,
            "idle_joules": idle,
            "idle_cost": prices.energy(idle),
        }
        for node, metered, idle in nodes
    ]
    return {
        "since": query.since,
        "before": query.before,
        "by": list(query.by),
        "price_per_kwh": prices.per_kwh,
        "price_per_node_hour": prices.per_node_hour,
        "usage": groups,
        "nodes": meters,
        "total": {
            **summed(groups, ("requests", "joules", "cost")),
            **summed(meters, ("idle_joules", "metered_joules")),
        },
    }


def summed(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the sum of each of these columns."""
    return {name: sum(row[name] for row in rows) for name in names}


def _group(query: UsageQuery, row: Sequence[Any], prices: Prices) -> dict[str, Any]:
    found = dict(zip((*query.names, *SUMS), row, strict=True))
    found["kwh"] = found["joules"] / _JOULES_PER_KWH
    found["cost"] = prices.of(found["joules"], found["node_seconds"])
    return found


def csv_lines(report: Mapping[str, Any], names: Sequence[str]) -> Iterable[list[Any]]:
    """Yield a header and a row for each group."""
    columns = [*names, *SUMS, "kwh", "cost"]
    yield columns
    for group in report["usage"]:
        yield [_plain(group[name]) for name in columns]


def _plain(value: object) -> object:
    """Quote a text that a spreadsheet would run as a formula."""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t"}:
        return f"'{value}"
    return value
