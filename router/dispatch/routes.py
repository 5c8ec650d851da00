"""The routes that carry inference, and what differs between their protocols."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import orjson

from router.errors import BadRequestError


class Dialect(StrEnum):
    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Route:
    """A path that is passed on to a node.

    streams: what an absent `stream` means; None where the route never streams
    """

    path: str
    dialect: Dialect
    streams: bool | None


ROUTES = {
    route.path: route
    for route in (
        Route("/api/generate", Dialect.OLLAMA, streams=True),
        Route("/api/chat", Dialect.OLLAMA, streams=True),
        Route("/api/embed", Dialect.OLLAMA, streams=None),
        Route("/api/embeddings", Dialect.OLLAMA, streams=None),
        Route("/api/show", Dialect.OLLAMA, streams=None),
        Route("/v1/chat/completions", Dialect.OPENAI, streams=False),
        Route("/v1/completions", Dialect.OPENAI, streams=False),
        Route("/v1/embeddings", Dialect.OPENAI, streams=None),
        Route("/v1/responses", Dialect.OPENAI, streams=False),
        Route("/v1/messages", Dialect.ANTHROPIC, streams=False),
    )
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What the router reads of a request's body; the body itself goes on as it is."""

    model: str
    streams: bool


def read_ask(route: Route, body: bytes) -> Ask:
    """Read model and stream. Raises BadRequestError, worded as Ollama does."""
    if not body:
        raise BadRequestError("missing request body")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"invalid JSON: {error}") from error
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise BadRequestError(f"the body must be a JSON object, got {kind}")
    # /api/show still takes the older `name`.
    model = fields.get("model") or fields.get("name")
    if not isinstance(model, str) or not model:
        raise BadRequestError("model is required")
    stream = fields.get("stream")
    if stream is None:
        stream = route.streams
    if route.streams is not None and not isinstance(stream, bool):
        raise BadRequestError(f"stream must be true or false, got {stream!r}")
    return Ask(model, bool(stream) and route.streams is not None)


def error_body(dialect: Dialect, status: int, message: str, code: str) -> bytes:
    """Render an error as the protocol's own error object."""
    if dialect is Dialect.OLLAMA:
        return orjson.dumps({"error": message})
    kind = _KINDS.get(status, "api_error")
    if dialect is Dialect.ANTHROPIC:
        error = {"type": kind, "message": message}
        return orjson.dumps({"type": "error", "error": error})
    return orjson.dumps(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}
    )


_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def error_frame(dialect: Dialect, message: str, code: str) -> bytes:
    """Render the error that ends a stream whose status line is already out."""
    body = error_body(dialect, 500, message, code)
    if dialect is Dialect.OLLAMA:
        return body + b"\n"
    event = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return event + b"data: " + body + b"\n\n"
