"""`/admin/usage`: who used what, and what it cost, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from flask import Response, jsonify, request

from router.access.principal import Principal
from router.errors import BadRequestError, NotFoundError
from router.text.api_key import Scope
from router.usage.report import GROUPS, UsageQuery, csv_lines
from router.web.admin.context import AdminContext
from router.web.admin.history import check_filters, read_times
from router.web.authentication import principal_of

_TEXTS = ("principal", "model", "node")
_KNOWN = (*_TEXTS, "by", "since", "before", "month", "format")
_FORMATS = ("json", "csv")
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


def usage(parts: AdminContext) -> Response:
    """Sum up requests; see `usage_query` for the filters."""
    who = principal_of(request.environ)
    query = narrowed(usage_query(request.args, parts.clock()), who)
    form = request.args.get("format", "json")
    if form not in _FORMATS:
        raise BadRequestError(f"format: must be json or csv, got {form[:100]!r}")
    report = parts.usage(query)
    return _csv(query, report) if form == "csv" else jsonify(report)


def sees_everybody(who: Principal) -> bool:
    """Say whether it sees what others used."""
    return who.sees_all or who.may(frozenset({Scope.ADMIN_READ}))


def narrowed(query: UsageQuery, who: Principal) -> UsageQuery:
    """Leave out what others used, and the meters of nodes. Raises NotFoundError."""
    if sees_everybody(who):
        return query
    if query.principal not in {"", who.id}:
        raise NotFoundError(f"no principal {query.principal[:100]!r}")
    return replace(query, principal=who.id, meters=False)


def usage_query(given: Mapping[str, str], now: float) -> UsageQuery:
    """Read the filters; without a time it is this month, in UTC."""
    check_filters(given, _KNOWN)
    by = tuple(filter(None, given.get("by", "principal").split(",")))
    if not by or len(set(by)) < len(by) or not set(by) <= GROUPS.keys():
        raise BadRequestError(
            f"by: must be some of {','.join(GROUPS)}, got {given.get('by', '')[:100]!r}"
        )
    if "month" in given and ("since" in given or "before" in given):
        raise BadRequestError("month: excludes since and before")
    since, before = _month(given.get("month", ""), now)
    if "month" not in given and "before" not in given:
        before = max(before, now)
    times = {"since": since, "before": before, **read_times(given)}
    principal, model, node = (given.get(name, "") for name in _TEXTS)
    return UsageQuery(times["since"], times["before"], by, principal, model, node)


def _month(text: str, now: float) -> tuple[float, float]:
    """Return a month's first moment and that of the next one."""
    today = datetime.fromtimestamp(now, UTC)
    year, month = today.year, today.month
    if text:
        found = _MONTH.fullmatch(text)
        if not found or not 1970 <= int(found[1]) < 9999:
            raise BadRequestError(f"month: must be such as 2026-11, got {text[:100]!r}")
        year, month = int(found[1]), int(found[2])
    after = (year + month // 12, month % 12 + 1)
    return _first(year, month), _first(*after)


def _first(year: int, month: int) -> float:
    return datetime(year, month, 1, tzinfo=UTC).timestamp()


def _csv(query: UsageQuery, report: Mapping[str, Any]) -> Response:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(csv_lines(report, query.names))
    answer = Response(text.getvalue(), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="usage.csv"'
    return answer
