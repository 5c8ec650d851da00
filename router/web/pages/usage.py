"""`/usage`: who used what in a month, for people; `/admin/usage` has the same as JSON.

A key sees what it used itself; admin-read, an operator and a router without keys all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flask import Blueprint, render_template, request

from router.errors import RequestError
from router.usage.report import Report, summed
from router.web.admin.usage import narrowed, sees_everybody, usage_query
from router.web.authentication import principal_of
from router.web.pages import guarded, request_refused

_GROUPS = ("principal", "model", "day", "node")
_TAKEN = frozenset({"by", "month"})


@dataclass(frozen=True, slots=True)
class UsagePageContext:
    """report: sums up the ledger; clock: unix seconds."""

    report: Report
    clock: Callable[[], float]


def usage_blueprint(parts: UsagePageContext) -> Blueprint:
    """Build the one route."""
    routes = Blueprint("usage", __name__, template_folder="templates")
    routes.add_url_rule("/usage", "month", partial(_month, parts))
    routes.register_error_handler(RequestError, request_refused)
    routes.after_request(guarded)
    return routes


def _month(parts: UsagePageContext) -> str:
    who = principal_of(request.environ)
    everybody = sees_everybody(who)
    now = parts.clock()
    asked = {k: v for k, v in request.args.items() if k in _TAKEN and v}
    asked.setdefault("by", "principal" if everybody else "model")
    asked.setdefault("month", datetime.fromtimestamp(now, UTC).strftime("%Y-%m"))
    query = narrowed(usage_query(asked, now), who)
    report = parts.report(query)
    rows: list[dict[str, Any]] = sorted(
        report["usage"],
        key=lambda row: row["day"] if "day" in row else -row["node_seconds"],
    )
    return render_template(
        "usage.html",
        rows=rows,
        total=summed(rows, _SUMMED),
        by=query.by,
        groups=_GROUPS,
        chosen=asked,
        priced=report["price_per_kwh"] or report["price_per_node_hour"],
        who="" if everybody else who.name,
    )


_SUMMED = (
    *("requests", "failed", "tokens_in", "tokens_out"),
    *("node_seconds", "kwh", "cost", "unmetered"),
)
