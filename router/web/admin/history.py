"""`/admin/holds/history` and `/admin/what-if`: what happened, and what would."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Response, jsonify, request

from router.alerts.what_if import Capacity, WhatIfPrediction, rehearse
from router.errors import BadRequestError
from router.holds.history import AuditQuery
from router.holds.record import Change
from router.model import HoldKind
from router.web.admin.auth import fields
from router.web.admin.context import AdminContext
from router.web.admin.views import show_event, show_hold

_TEXTS = ("node", "kind", "change", "alert")
_TIMES = ("since", "before")
_MOST_EVENTS = 1000
_MOST_ALERTS = 1000
_LAST_SECOND = 253_402_300_800  # the year 10000


def history(parts: AdminContext) -> Response:
    """Show what happened to holds, newest first; see `_query` for the filters."""
    return jsonify([show_event(event) for event in parts.find(_query(request.args))])


def _query(given: Mapping[str, str]) -> AuditQuery:
    check_filters(given, (*_TEXTS, *_TIMES, "limit"))
    _one_of("kind", given.get("kind"), tuple(HoldKind))
    _one_of("change", given.get("change"), tuple(Change))
    times = read_times(given)
    return AuditQuery(
        node=given.get("node", ""),
        kind=given.get("kind", ""),
        change=given.get("change", ""),
        alert=given.get("alert", ""),
        since=times.get("since"),
        before=times.get("before"),
        limit=read_limit(given.get("limit", "100")),
    )


def check_filters(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise BadRequestError for a filter that there is not."""
    for name in given:
        if name not in known:
            raise BadRequestError(f"{name}: unknown filter, known: {', '.join(known)}")


def _one_of(name: str, value: str | None, known: tuple[str, ...]) -> None:
    if value and value not in known:
        raise BadRequestError(
            f"{name}: must be one of {', '.join(known)}, got {value!r}"
        )


def read_limit(text: str) -> int:
    if re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= _MOST_EVENTS:
        return int(text)
    raise BadRequestError(f"limit: must be 1 to {_MOST_EVENTS}, got {text[:100]!r}")


def read_times(given: Mapping[str, str]) -> dict[str, float]:
    """Read those of `since` and `before` that are given, in unix seconds."""
    return {name: _read_time(name, given[name]) for name in _TIMES if name in given}


def _read_time(name: str, text: str) -> float:
    """Read ISO 8601 (UTC where it names no zone) or unix seconds."""
    try:
        at = _unix_seconds(text)
    except (ValueError, OverflowError):
        at = math.inf
    if abs(at) < _LAST_SECOND:
        return at
    raise BadRequestError(
        f"{name}: must be a time in ISO 8601 or unix seconds, got {text[:100]!r}"
    )


def _unix_seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def what_if(parts: AdminContext) -> Response:
    """Say what these alerts would do to the fleet; nothing is done."""
    given = fields({"alerts": list}).get("alerts", [])
    if len(given) > _MOST_ALERTS:
        raise BadRequestError(f"alerts: at most {_MOST_ALERTS}, got {len(given)}")
    alerts = [_labels(index, each) for index, each in enumerate(given)]
    outlook = rehearse(
        alerts,
        parts.published.current.nodes,
        parts.ledger.slots,
        parts.holds.preview,
        parts.clock(),
    )
    return jsonify(_shown(parts, outlook))


def _labels(index: int, alert: object) -> dict[str, str]:
    """Read the labels of an alert; without an action it is meant as a drain."""
    if not isinstance(alert, dict):
        raise BadRequestError(
            f"alerts[{index}]: must be a map of labels, got {alert!r}"
        )
    for name, value in alert.items():
        if not isinstance(value, str):
            raise BadRequestError(
                f"alerts[{index}].{name}: must be text, got {value!r}"
            )
    return {"action": "drain", "alertname": "WhatIf", **alert}


def _shown(parts: AdminContext, outlook: WhatIfPrediction) -> dict[str, Any]:
    return {
        "panic": outlook.panic,
        "panic_now": outlook.panic_now,
        "leave": {
            node: {
                "holds": [show_hold(hold) for hold in holds],
                "in_flight": parts.ledger.in_flight(node),
            }
            for node, holds in outlook.leave.items()
        },
        "serve_again": list(outlook.serve),
        "derated": dict(outlook.derated),
        "without_consequence": [
            {"labels": dict(labels), "reason": why} for labels, why in outlook.without
        ],
        "capacity": {"now": _stock(outlook.now), "then": _stock(outlook.then)},
        "models_without_node": sorted(outlook.lost_models),
    }


def _stock(stock: Capacity) -> dict[str, int]:
    return {"nodes": stock.nodes, "slots": stock.slots, "models": len(stock.models)}
