"""The routes that carry inference, and what differs between their protocols."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from router.errors import BadRequestError


class Dialect(StrEnum):
    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"

    @property
    def json_type(self) -> str:
        """The content type of a JSON answer, as Ollama says it."""
        charset = "; charset=utf-8" if self is Dialect.OLLAMA else ""
        return f"application/json{charset}"


@dataclass(frozen=True, slots=True)
class Route:
    """A path that is passed on to a node.

    streams: what an absent `stream` means; None where the route never streams
    form: whether the body is a multipart form, not JSON
    """

    path: str
    dialect: Dialect
    streams: bool | None
    form: bool = False


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
        Route("/v1/images/generations", Dialect.OPENAI, streams=None),
        Route("/v1/images/edits", Dialect.OPENAI, streams=None),
        Route("/v1/audio/transcriptions", Dialect.OPENAI, streams=None, form=True),
        Route("/v1/messages", Dialect.ANTHROPIC, streams=False),
    )
}


# Streams that end without any word where their runner dies (0.17.4).
WORDLESS = frozenset({"/v1/messages", "/v1/responses"})


def dialect_of(path: str) -> Dialect:
    """Return whose words an error on this path, known or not, is told in."""
    if route := ROUTES.get(path):
        return route.dialect
    return Dialect.OPENAI if path.startswith(_AS_OPENAI) else Dialect.OLLAMA


_AS_OPENAI = ("/v1/", "/batches")


@dataclass(frozen=True, slots=True)
class Ask:
    """What the router reads of a request's body; the body itself goes on as it is."""

    model: str
    streams: bool


def read_ask(route: Route, body: bytes) -> Ask:
    """Read model and stream. Raises BadRequestError, worded as Ollama does."""
    if not body:
        raise BadRequestError("missing request body")
    if route.form:
        return Ask(_form_model(body), streams=False)
    fields = _parse(body)
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise BadRequestError(f"the body must be a JSON object, got {kind}")
    if "model" not in fields:  # Go reads keys in any case
        fields = {key.lower(): value for key, value in fields.items()}
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


_MOST_LENIENT_BYTES = 4 * 1024 * 1024  # the slower parser holds the event loop


def _parse(body: bytes) -> Any:
    """Parse as leniently as Ollama, which is to see the body itself.

    orjson refuses half of a surrogate pair, which JavaScript sends for a text
    that was cut inside an emoji, and bytes that are no UTF-8; Go does not.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if len(body) <= _MOST_LENIENT_BYTES:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(body.decode(errors="replace"))
        raise BadRequestError(f"invalid JSON: {error}") from error


_MOST_PARTS = 64


def _form_model(body: bytes) -> str:
    """Read the field `model` of a multipart form; a file in it is not looked at."""
    boundary, _, _ = body.partition(b"\r\n")
    if not boundary.startswith(b"--"):
        raise BadRequestError("the body must be a multipart form")
    for part in body.split(boundary, _MOST_PARTS):
        head, _, value = part.partition(b"\r\n\r\n")
        if b' name="model"' in head and value.strip():
            return value.strip().decode(errors="replace")
    raise BadRequestError("model is required")


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
    405: "invalid_request_error",
    409: "invalid_request_error",
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
