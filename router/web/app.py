"""The Flask application: everything but the inference routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response, g, jsonify, request
from prometheus_client import CollectorRegistry, make_wsgi_app
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from router.dispatch.routes import Dialect, error_body
from router.errors import RequestError
from router.web.visit import request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# Nothing that is sent to these routes is large; webhooks have a limit of their own.
_MAX_BODY_BYTES = 2 * 1024 * 1024


def flask_app(
    blueprints: list[Blueprint],
    registry: CollectorRegistry,
    not_ready: Callable[[], str | None],
) -> WSGIApplication:
    """Build the application; `not_ready` says why `/readyz` must not say yes."""
    app = Flask("router", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.register_blueprint(_health(not_ready))
    app.register_error_handler(RequestError, _request_error)
    app.register_error_handler(HTTPException, _http_error)

    @app.before_request
    def name_request() -> None:
        g.request_id = request_id(request.environ)

    @app.after_request
    def tell_request_id(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        return response

    metrics = make_wsgi_app(registry)
    return DispatcherMiddleware(app, {"/metrics": metrics})


def _health(not_ready: Callable[[], str | None]) -> Blueprint:
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @routes.get("/readyz")
    def readyz() -> tuple[Response, int]:
        reason = not_ready()
        if reason:
            return jsonify(status="not ready", reason=reason), 503
        return jsonify(status="ready"), 200

    return routes


def _dialect() -> Dialect:
    return Dialect.OPENAI if request.path.startswith("/v1/") else Dialect.OLLAMA


def _request_error(error: RequestError) -> Response:
    body = error_body(_dialect(), error.status, error.message, error.code)
    return Response(body, error.status, mimetype="application/json")


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    text = f"{request.method} {request.path}: {error.name.lower()}"
    body = error_body(_dialect(), status, text, "http_error")
    return Response(body, status, mimetype="application/json")
