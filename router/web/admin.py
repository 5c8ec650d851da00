"""`/admin/`: see the fleet as the router sees it, and hold nodes by hand.

Reading is open. A change needs the bearer token; where none is configured it
must come from this machine. It must be JSON, which a foreign web page cannot
send here without being asked first.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any

import gevent
from flask import Blueprint, Response, jsonify, request

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.ledger import Ledger
from router.dispatch.pipeline import BUSY, Wish
from router.dispatch.trail import Trails
from router.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
)
from router.holds import HoldStore
from router.model import Hold, HoldKind, Priority, canonical
from router.snapshot import NodeView, Published
from router.web.shapes import (
    show_decision,
    show_hold,
    show_node,
    show_slots,
    show_trail,
)

_CORDON = {"reason": str, "by": str, "minutes": int}
_LONGEST_WAIT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class AdminParts:
    """What the admin routes look at and act on.

    token:  gives the bearer token for changes; None where none is configured
    reload: reads the configuration files again; takes `confirmed`
    """

    published: Published
    holds: HoldStore
    ledger: Ledger
    dispatcher: Dispatcher
    trails: Trails
    token: Callable[[], str | None]
    reload: Callable[[bool], list[dict[str, Any]]]


def admin_blueprint(parts: AdminParts) -> Blueprint:
    """Build the routes under `/admin/` from the table at the end."""
    routes = Blueprint("admin", __name__, url_prefix="/admin")

    @routes.before_request
    def guard() -> None:
        if request.method != "GET":
            _allow_change(parts.token())

    for method, rule, view in _ROUTES:
        routes.add_url_rule(
            rule, view.__name__.strip("_"), partial(view, parts), methods=[method]
        )
    return routes


def _nodes(parts: AdminParts) -> Response:
    views = parts.published.current.nodes.values()
    return jsonify([_shown(parts, view) for view in views])


def _one_node(parts: AdminParts, name: str) -> Response:
    return jsonify(_shown(parts, _view(parts, name)))


def _holds(parts: AdminParts) -> Response:
    return jsonify([show_hold(hold) for hold in parts.holds.list()])


def _queue(parts: AdminParts) -> Response:
    lengths = {p.value: parts.dispatcher.queue.length(p) for p in Priority}
    return jsonify(waiting=lengths)


def _explain(parts: AdminParts) -> Response:
    """Decide for `?model=` and send nothing; without it, show the newest requests."""
    model = request.args.get("model", "")
    if not model:
        newest = [show_trail(trail) for trail in parts.trails.newest(20)]
        return jsonify(usage="?model=NAME is a dry run", requests=newest)
    wish = Wish(canonical(model))
    decision = parts.dispatcher.explain(wish)
    slots = {
        node: show_slots(parts.ledger, node, wish.model)
        for node, reason in decision.rejected.items()
        if reason == BUSY
    }
    shown = show_decision(decision)
    return jsonify(model=wish.model, dry_run=True, busy=slots, **shown)


def _explain_request(parts: AdminParts, request_id: str) -> Response:
    trail = parts.trails.get(request_id)
    if trail is None:
        raise NotFoundError(f"no request {request_id!r} among the newest")
    return jsonify(show_trail(trail))


def _reload(parts: AdminParts) -> Response:
    """Read the files again; `confirmed` lets a shrunk inventory pass."""
    confirmed = _fields({"confirmed": bool}).get("confirmed", False)
    return jsonify(files=parts.reload(confirmed))


def _allow_change(token: str | None) -> None:
    if request.mimetype != "application/json":
        raise BadRequestError("a change must be sent as application/json")
    if token is None:
        if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:  # noqa: S104 - compared, not bound
            raise ForbiddenError(
                "changes need a token (admin.token_file), or come from this machine"
            )
        return
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise UnauthorizedError("the bearer token is missing or wrong")


def _fields(types: Mapping[str, type]) -> dict[str, Any]:
    """Read the JSON object of a change; unknown and ill-typed fields are told."""
    if not request.get_data(cache=True):
        return {}
    fields = request.get_json(silent=True)
    if not isinstance(fields, dict):
        raise BadRequestError("the body must be a JSON object")
    for name, value in fields.items():
        if name not in types:
            raise BadRequestError(f"{name}: unknown field, known: {', '.join(types)}")
        if not isinstance(value, types[name]):
            kind = types[name].__name__
            raise BadRequestError(f"{name}: must be of type {kind}, got {value!r}")
    return fields


def _view(parts: AdminParts, name: str) -> NodeView:
    view = parts.published.current.nodes.get(name)
    if view is None:
        raise NotFoundError(f"no node {name!r} in the inventory")
    return view


def _cordon(parts: AdminParts, name: str) -> Response:
    """Keep new work away; what is in flight ends by itself."""
    _place_cordon(parts, name, _fields(_CORDON))
    return _one_node(parts, name)


def _drain(parts: AdminParts, name: str) -> Response:
    """Cordon, then wait until nothing is in flight, at most `wait_seconds`."""
    fields = _fields({**_CORDON, "wait_seconds": int})
    seconds = fields.pop("wait_seconds", 0)
    if not 0 <= seconds <= _LONGEST_WAIT_SECONDS:
        raise BadRequestError(
            f"wait_seconds: must be 0 to {_LONGEST_WAIT_SECONDS}, got {seconds}"
        )
    _place_cordon(parts, name, fields)
    deadline = time.monotonic() + seconds
    while parts.ledger.in_flight(name) and time.monotonic() < deadline:
        gevent.sleep(0.05)
    return _one_node(parts, name)


def _place_cordon(parts: AdminParts, name: str, fields: Mapping[str, Any]) -> None:
    _view(parts, name)
    minutes = fields.get("minutes")
    if minutes is not None and minutes < 1:
        raise BadRequestError(f"minutes: must be >= 1, got {minutes}")
    now = time.time()
    parts.holds.place(
        Hold(
            node=name,
            kind=HoldKind.CORDON,
            source=f"operator:{fields.get('by') or 'admin'}",
            reason=fields.get("reason") or "cordoned by an operator",
            since=now,
            until=None if minutes is None else now + minutes * 60,
        )
    )


def _uncordon(parts: AdminParts, name: str) -> Response:
    """Lift every operator's cordon; holds of alerts and probes stay."""
    _view(parts, name)
    fields = _fields({"by": str, "reason": str})
    held = [h for h in parts.holds.of(name) if h.kind is HoldKind.CORDON]
    return _lift(parts, name, held, fields)


def _clear(parts: AdminParts, name: str) -> Response:
    """Lift an alert's hold that waits for a person (`clear: manual`)."""
    _view(parts, name)
    fields = _fields({"alert": str, "by": str, "reason": str})
    alert = fields.get("alert")
    if not alert:
        raise BadRequestError("alert: the alert's name is required")
    prefix = f"alert:{alert}:"
    held = [h for h in parts.holds.of(name) if h.source.startswith(prefix)]
    if not held:
        raise NotFoundError(f"alert {alert!r} holds node {name!r} by nothing")
    return _lift(parts, name, held, fields)


def _lift(
    parts: AdminParts, name: str, held: list[Hold], fields: Mapping[str, Any]
) -> Response:
    by = f"operator:{fields.get('by') or 'admin'}"
    why = fields.get("reason") or "lifted by an operator"
    for hold in held:
        parts.holds.lift(hold.node, hold.kind, hold.source, by=by, why=why)
    return _one_node(parts, name)


def _shown(parts: AdminParts, view: NodeView) -> dict[str, Any]:
    name = view.node.name
    schedulable = not parts.holds.blocking(name)
    return show_node(view, parts.holds.of(name), parts.ledger, schedulable=schedulable)


_ROUTES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("GET", "/nodes", _nodes),
    ("GET", "/nodes/<name>", _one_node),
    ("POST", "/nodes/<name>/cordon", _cordon),
    ("POST", "/nodes/<name>/drain", _drain),
    ("POST", "/nodes/<name>/uncordon", _uncordon),
    ("POST", "/nodes/<name>/clear", _clear),
    ("GET", "/holds", _holds),
    ("GET", "/queue", _queue),
    ("GET", "/explain", _explain),
    ("GET", "/explain/<request_id>", _explain_request),
    ("POST", "/reload", _reload),
)
