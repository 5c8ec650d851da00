"""POST /webhook/alertmanager: where Alertmanager posts its notifications.

Answers 2xx to whatever is well formed, also when it has no consequence:
Alertmanager would send it again and again. Never answers with more than one
sentence, and never logs the token or the body.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, g, jsonify, request

from alerting.errors import PayloadError
from alerting.payload import Notification, parse
from router.alerts.notify import NotificationHandler
from router.errors import (
    BadRequestError,
    BodyTooLargeError,
    ForbiddenError,
    RequestError,
    StateError,
    UnauthorizedError,
    UnavailableError,
)
from router.holds.record import Actor
from router.logs.events import get_logger
from router.web.authentication import principal_of
from router.web.bearer import is_bearer
from router.web.caller import address

_MOST_BYTES = 1_000_000


def webhook_blueprint(
    notifications: NotificationHandler,
    token: Callable[[], str | None],
    count: Callable[[str], None],
) -> Blueprint:
    """Make the route; `count` is told the outcome of each alert or refusal."""
    blueprint = Blueprint("webhook", __name__)
    log = get_logger("webhook")

    @blueprint.post("/webhook/alertmanager")
    def receive() -> Response:
        g.principal = _authorized(token)
        notification = _read()
        outcomes = _hear(notifications, notification, count)
        log.info(
            "notified",
            alerts=len(notification.alerts),
            client=address(request.environ),
            **outcomes,
        )
        return jsonify(outcomes=outcomes)

    @blueprint.errorhandler(RequestError)
    def refuse(error: RequestError) -> Response:
        count(error.code)
        log.warning(
            "refused",
            code=error.code,
            why=error.message,
            client=address(request.environ),
        )
        reply = jsonify(error={"code": error.code, "message": error.message})
        reply.status_code = error.status
        if error.retry_after_seconds:
            reply.headers["Retry-After"] = f"{error.retry_after_seconds:.0f}"
        # What was not read of the body must not be taken for the next request.
        reply.headers["Connection"] = "close"
        return reply

    return blueprint


def _authorized(read_token: Callable[[], str | None]) -> str:
    """Return who sends it. Raises ForbiddenError, UnauthorizedError."""
    who = principal_of(request.environ)
    if who.id.startswith("key:"):  # it has the scope, or would not be here
        return who.label
    token = read_token()
    if not token:
        raise ForbiddenError("webhook is shut: no token is configured")
    if not is_bearer(request.headers.get("Authorization", ""), token):
        raise UnauthorizedError(
            "a bearer token is wanted, and it must be the right one"
        )
    return "token:webhook"


def _read() -> Notification:
    try:
        return parse(_body())
    except PayloadError as error:
        raise BadRequestError(str(error)) from error


def _body() -> bytes:
    # Without an announced length, werkzeug's own limit cuts the body in silence.
    body = bytearray()
    if (request.content_length or 0) <= _MOST_BYTES:
        while chunk := request.stream.read(_MOST_BYTES + 1 - len(body)):
            body += chunk
        if len(body) <= _MOST_BYTES:
            return bytes(body)
    raise BodyTooLargeError(f"at most {_MOST_BYTES} bytes are read")


def _hear(
    notifications: NotificationHandler,
    notification: Notification,
    count: Callable[[str], None],
) -> dict[str, int]:
    outcomes: dict[str, int] = {}
    try:
        actor = Actor(g.principal, address(request.environ))
        for outcome in notifications.hear(notification.alerts, actor):
            count(outcome.value)
            outcomes[outcome.value] = outcomes.get(outcome.value, 0) + 1
    except StateError as error:
        # Alertmanager tries a 5xx again; by then the disk may take it.
        raise UnavailableError("the hold stands, but could not be saved") from error
    finally:
        notifications.wake()
    return outcomes
