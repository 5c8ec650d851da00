"""An error as a WSGI answer, in the dialect of the route that was asked."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from router.errors import RequestError
from router.relay.protocols import dialect_of, error_body
from router.web.inference.request import request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def refuse(
    error: RequestError,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    extra: Sequence[tuple[str, str]] = (),
) -> list[bytes]:
    """Answer with the error; `extra`: more headers."""
    dialect = dialect_of(environ["PATH_INFO"])
    body = error_body(dialect, error.status, error.message, error.code)
    headers = [
        ("Content-Type", dialect.json_type),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id(environ)),
        *extra,
    ]
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", headers)
    return [body]
