"""How the routes of files and jobs say no: OpenAI's error object, with `param`."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Response, request

from router.errors import RequestError
from router.jobs.store.database import StoreError, as_request_error
from router.logs.events import get_logger
from router.relay.protocols import Dialect, error_body

log = get_logger("jobs")


def add_error_handlers(routes: Blueprint) -> None:
    """Word what the views of a blueprint raise."""

    @routes.errorhandler(RequestError)
    def refuse(error: RequestError) -> Response:
        return refusal(error)

    @routes.errorhandler(StoreError)
    def broken(error: StoreError) -> Response:
        log.warning("job_database", fault=str(error), path=request.path)
        return refusal(as_request_error(error))


def refusal(error: RequestError) -> Response:
    body = error_body(Dialect.OPENAI, error.status, error.message, error.code)
    param = getattr(error, "param", None)
    if param:
        fields = orjson.loads(body)
        fields["error"]["param"] = param
        body = orjson.dumps(fields)
    response = Response(body, error.status, content_type="application/json")
    if error.retry_after_seconds:
        response.headers["Retry-After"] = f"{error.retry_after_seconds:.0f}"
    if request.method == "POST" and not request.environ.get("inferops.body_read"):
        # What was not read must not be taken for the next request.
        response.headers["Connection"] = "close"
    return response


def answer(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, content_type="application/json")
