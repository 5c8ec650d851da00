"""`/admin/audit`: who changed what; and how a change under `/admin` is noted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response, g, jsonify, request

from router.audit.store import AuditSearch
from router.errors import BadRequestError, RequestError
from router.web.admin.context import AdminContext
from router.web.admin.history import check_filters, read_limit, read_times
from router.web.admin.keys import show_key
from router.web.admin.views import show_hold, show_override
from router.web.caller import address

_KNOWN = (
    *("actor", "client", "action", "target"),
    *("since", "before", "after", "limit"),
)
_NO_CHANGE = frozenset({"admin.what_if"})
_MOST_AGENT = 100


def audit(parts: AdminContext) -> Response:
    """Show entries, newest first; `after` a number: oldest first, to follow them."""
    return jsonify(parts.audit.find(audit_search(request.args)))


def audit_search(given: Mapping[str, str]) -> AuditSearch:
    check_filters(given, _KNOWN)
    after = given.get("after")
    if after is not None and not re.fullmatch("[0-9]{1,15}", after):
        raise BadRequestError(f"after: must be an entry's number, got {after[:100]!r}")
    times = read_times(given)
    return AuditSearch(
        actor=given.get("actor", ""),
        client=given.get("client", ""),
        action=given.get("action", ""),
        target=given.get("target", ""),
        since=times.get("since"),
        before=times.get("before"),
        after=None if after is None else int(after),
        limit=read_limit(given.get("limit", "100")),
    )


def note_before(parts: AdminContext) -> None:
    """Remember what a change finds."""
    g.audit_before = _state(parts, request.view_args or {})


def note_after(parts: AdminContext, response: Response) -> Response:
    """Write down a change that was made, before its caller hears of it."""
    unmade = response.status_code >= 400 or "audit_before" not in g
    if unmade or request.endpoint in _NO_CHANGE:
        return response
    args = dict(request.view_args or {})
    args |= {name: g.audit[name] for name in ("key",) if name in g.get("audit", {})}
    parts.audit.record(
        f"admin.{(request.endpoint or '').rpartition('.')[2]}",
        _target(args),
        actor=str(g.get("principal", "")),
        client=address(request.environ),
        before=g.audit_before,
        after=_state(parts, args),
        path=request.path,
        method=request.method,
        agent=request.headers.get("User-Agent", "")[:_MOST_AGENT],
        request_id=str(g.get("request_id", "")),
    )
    parts.audit.flush()
    return response


def _target(args: Mapping[str, Any]) -> str:
    if "name" in args:
        return f"node:{args['name']}"
    return f"key:{args['key']}" if "key" in args else "router"


def _state(parts: AdminContext, args: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what may be changed of a node or a key; None where it is not there."""
    try:
        if "name" in args:
            name = parts.view(args["name"]).node.name
            overrides = parts.holds.overrides.list()
            return {
                "holds": [show_hold(each) for each in parts.holds.of(name)],
                "overrides": [show_override(e) for e in overrides if e.node == name],
            }
        return show_key(parts.keys.get(args["key"])) if "key" in args else None
    except RequestError:
        return None
