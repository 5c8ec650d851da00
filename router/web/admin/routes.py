"""`/admin/`: see the fleet as the router sees it, and hold nodes by hand.

Reading is open where no API key is needed. A change needs a key for it or the admin
token; where neither is configured it must come from this machine, through no proxy. It
must be JSON, which a foreign web page cannot send here without being asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, g, jsonify, request

from router.errors import NotFoundError
from router.model import Priority, canonical
from router.runtime.turns import in_turns
from router.scheduling.pipeline import BUSY, RoutingRequest
from router.text.api_key import Scope
from router.web.access import Area, area_of
from router.web.admin import history as health
from router.web.admin import holds as holding
from router.web.admin import keys
from router.web.admin.audit import audit, note_after, note_before
from router.web.admin.auth import allow_change, check_spelling, fields
from router.web.admin.context import AdminContext
from router.web.admin.decisions import show_decision, show_trail
from router.web.admin.inventory import add_node
from router.web.admin.usage import usage
from router.web.admin.views import show_hold, show_slots
from router.web.authentication import principal_of


def admin_blueprint(parts: AdminContext) -> Blueprint:
    """Build the routes under `/admin/` from the table at the end."""
    routes = Blueprint("admin", __name__, url_prefix="/admin")

    @routes.before_app_request  # also where Flask would redirect to a route of ours
    def spelled() -> None:
        if area_of(request.path) is Area.ADMIN:
            check_spelling(request.environ.get("RAW_URI", request.path))

    @routes.before_request
    def guard() -> None:
        if request.method != "GET":
            g.principal = allow_change(parts.token(), parts.trusts)
            note_before(parts)

    @routes.after_request
    def note(response: Response) -> Response:
        return note_after(parts, response)

    for method, rule, view in _ROUTES:
        routes.add_url_rule(
            rule, view.__name__.strip("_"), partial(view, parts), methods=[method]
        )
    return routes


def _nodes(parts: AdminContext) -> Response:
    return _listed(parts.shown(parts.published.current.nodes.values()))


def _one_node(parts: AdminContext, name: str) -> Response:
    return parts.answer(name)


def _holds(parts: AdminContext) -> Response:
    waits = parts.waits()
    return _listed(show_hold(h, waits.get(h.key)) for h in parts.holds.list())


def _listed(entries: Iterable[Mapping[str, Any]]) -> Response:
    """Write a long list in turns with everything else."""
    shown = [orjson.dumps(e, option=orjson.OPT_SORT_KEYS) for e in in_turns(entries)]
    return Response(b"[%b]\n" % b",".join(shown), content_type="application/json")


def _queue(parts: AdminContext) -> Response:
    lengths = {p.value: parts.dispatcher.queue.length(p) for p in Priority}
    return jsonify(waiting=lengths)


def _explain(parts: AdminContext) -> Response:
    """Decide for `?model=` and send nothing; without it, show the newest requests."""
    model = request.args.get("model", "")
    if not model:
        newest = [show_trail(trace) for trace in parts.traces.newest(20, _sees)]
        return jsonify(usage="?model=NAME is a dry run", requests=newest)
    routing = RoutingRequest(canonical(model))
    decision = parts.dispatcher.explain(routing)
    slots = {
        node: show_slots(parts.ledger, node, routing.model)
        for node, reason in decision.rejected.items()
        if reason == BUSY
    }
    shown = show_decision(decision)
    return jsonify(model=routing.model, dry_run=True, busy=slots, **shown)


def _sees(owner: str) -> bool:
    """Say whether who asks may see how an owner's requests were decided."""
    who = principal_of(request.environ)
    return who.sees(owner) or who.may(frozenset({Scope.ADMIN_READ}))


def _explain_request(parts: AdminContext, request_id: str) -> Response:
    trace = parts.traces.get(request_id)
    if trace is None or not _sees(trace.owner):
        raise NotFoundError(f"no request {request_id!r} among the newest")
    return jsonify(show_trail(trace))


def _trial(parts: AdminContext, name: str) -> Response:
    """Have what failed on a node tried now: somebody has mended it."""
    parts.view(name)
    trials = parts.circuits.try_now(name) if parts.circuits else 0
    return parts.answer(name, trials=trials)


def _reload(parts: AdminContext) -> Response:
    """Read the files again; `confirmed` lets a shrunk inventory pass."""
    confirmed = fields({"confirmed": bool}).get("confirmed", False)
    return jsonify(files=parts.reload(confirmed))


_ROUTES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("GET", "/nodes", _nodes),
    ("POST", "/nodes", add_node),
    ("GET", "/nodes/<name>", _one_node),
    ("POST", "/nodes/<name>/cordon", holding.cordon),
    ("POST", "/nodes/<name>/drain", holding.drain),
    ("POST", "/nodes/<name>/uncordon", holding.uncordon),
    ("POST", "/nodes/<name>/clear", holding.clear),
    ("POST", "/nodes/<name>/override", holding.override),
    ("DELETE", "/nodes/<name>/override", holding.end_override),
    ("POST", "/nodes/<name>/trial", _trial),
    ("GET", "/overrides", holding.overrides),
    ("GET", "/holds", _holds),
    ("GET", "/holds/history", health.history),
    ("POST", "/what-if", health.what_if),
    ("GET", "/queue", _queue),
    ("GET", "/explain", _explain),
    ("GET", "/explain/<request_id>", _explain_request),
    ("POST", "/reload", _reload),
    ("GET", "/usage", usage),
    ("GET", "/audit", audit),
    ("GET", "/keys", keys.list_keys),
    ("POST", "/keys", keys.create_key),
    ("GET", "/keys/<key>", keys.get_key),
    ("DELETE", "/keys/<key>", keys.revoke_key),
    ("POST", "/keys/<key>/rotate", keys.rotate_key),
)
