"""The Flask application: everything but the inference routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response, g, jsonify, request
from prometheus_client import CollectorRegistry
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from router import __version__
from router.errors import (
    DiskFullError,
    RequestError,
    StateError,
    UnavailableError,
)
from router.logs.events import get_logger
from router.relay.protocols import ROUTES, dialect_of, error_body
from router.web.access import OLD_JOBS, Area, area_of
from router.web.authentication import principal_of
from router.web.caller import sender
from router.web.inference.request import request_id
from router.web.openapi import described, routes_of
from router.web.pages import guarded, refused
from router.web.scrape import metrics_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = get_logger("web")

# Nothing that is sent to these routes is large; webhooks have a limit of their own.
_MAX_BODY_BYTES = 2 * 1024 * 1024
_PAGE = "text/html"


def flask_app(
    blueprints: list[Blueprint],
    registry: CollectorRegistry,
    not_ready: Callable[[], str | None],
    warnings: Callable[[], Sequence[str]] = tuple,
) -> Flask:
    """Build the application.

    not_ready: says why `/readyz` must not say yes
    warnings:  what is wrong though it does
    """
    app = routed(blueprints, not_ready, warnings)
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        _with_old_paths(app.wsgi_app), {"/metrics": metrics_app(registry)}
    )
    return app


def _with_old_paths(app: WSGIApplication) -> WSGIApplication:
    """Answer `/batches…` as `/v1/jobs…`; what it was called before 0.2."""

    def renamed(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == OLD_JOBS or path.startswith(f"{OLD_JOBS}/"):
            environ["PATH_INFO"] = f"/v1/jobs{path.removeprefix(OLD_JOBS)}"
        return app(environ, start_response)

    return renamed


def routed(
    blueprints: list[Blueprint],
    not_ready: Callable[[], str | None],
    warnings: Callable[[], Sequence[str]] = tuple,
) -> Flask:
    """Build the part of it that Flask routes."""
    app = Flask("router", static_folder=None, template_folder="web/pages/templates")
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # browsers ask `router.web.cors`
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.register_blueprint(_health(not_ready, warnings))
    app.add_url_rule("/openapi.json", "openapi", partial(_openapi, app))
    app.register_error_handler(RequestError, _request_error)
    app.register_error_handler(StateError, _state_error)
    app.register_error_handler(HTTPException, _http_error)

    @app.before_request
    def name_request() -> None:
        g.request_id = request_id(request.environ)

    @app.after_request
    def tell_request_id(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        return response

    app.after_request(_guard)
    app.after_request(_log_change)
    return app


def own_paths(app: Flask) -> frozenset[str]:
    """Return the starts, two words long, of what the router itself answers.

    They are never passed on to a node as routes that are not known here.
    """
    rules = (rule.rule for rule in app.url_map.iter_rules())
    return frozenset("/".join(rule.split("/", 3)[:3]) for rule in rules)


_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _guard(response: Response) -> Response:
    """Have browsers take an answer for what it is; pages say more of themselves."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    if area_of(request.path) is Area.ADMIN:
        for name, value in _GUARDS.items():
            response.headers.setdefault(name, value)
    return response


def _log_change(response: Response) -> Response:
    """Leave a line for whatever may have changed something, and for who was refused.

    g.audit: what a view adds, such as the id of what it made
    """
    if request.method in {"GET", "HEAD", "OPTIONS"} or request.blueprint == "webhook":
        return response  # a webhook has lines of its own
    tell = log.warning if response.status_code in {401, 403} else log.info
    tell(
        "change",
        route=request.blueprint or "",
        method=request.method,
        path=request.path,
        status=response.status_code,
        **sender(request.environ),
        principal=g.get("principal") or principal_of(request.environ).label,
        request_id=g.get("request_id", ""),
        **g.get("audit", {}),
    )
    return response


def _health(
    not_ready: Callable[[], str | None], warnings: Callable[[], Sequence[str]]
) -> Blueprint:
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @routes.get("/readyz")
    def readyz() -> tuple[Response, int]:
        reason = not_ready()
        if reason:
            return jsonify(status="not ready", reason=reason), 503
        found = list(warnings())
        return jsonify(status="ready", **({"warnings": found} if found else {})), 200

    return routes


def _openapi(app: Flask) -> Response:
    return jsonify(described(routes_of(app.url_map), __version__))


def _request_error(error: RequestError) -> Response:
    headers = {}
    if error.retry_after_seconds:
        headers["Retry-After"] = f"{error.retry_after_seconds:.0f}"
    return _refusal(error.status, error.message, error.code, headers)


def _state_error(error: StateError) -> Response:
    """Say what the disk did; a change acts all the same, and is saved later."""
    log.error("state_not_saved", fault=str(error), path=request.path)
    full = "full" in str(error)
    kind = DiskFullError if full else UnavailableError
    if request.method in {"GET", "HEAD"}:
        return _request_error(kind(f"it cannot be read now: {error}"))
    return _request_error(
        kind(
            f"the change acts, but is not saved yet: {error}; it will be, as soon as"
            " the disk takes it, and a restart before that loses it"
        )
    )


def _http_error(error: HTTPException) -> Response:
    if request.path in ROUTES:  # a POST is answered before it gets here
        error = MethodNotAllowed(["POST"])
    status = error.code or 500
    what = f"{request.method} {request.path}"
    text, code, headers = f"{what}: {error.name.lower()}", "http_error", {}
    if isinstance(error, NotFound):
        text, code = f"{what}: there is no such path", "not_found"
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = allowed = ", ".join(sorted(error.valid_methods or ()))
        text = f"{what}: method not allowed, this path takes {allowed}"
        code = "method_not_allowed"
    return _refusal(status, text, code, headers)


def _refusal(
    status: int, message: str, code: str, headers: Mapping[str, str]
) -> Response:
    """Answer as the route does, or with a page where a browser opened the path."""
    wanted = request.accept_mimetypes.best_match(["application/json", _PAGE])
    if request.method == "GET" and wanted == _PAGE:
        page = refused(status, message)
        page.headers.update(headers)
        return guarded(page)
    dialect = dialect_of(request.path)
    body = error_body(dialect, status, message, code)
    return Response(body, status, headers, content_type=dialect.json_type)
