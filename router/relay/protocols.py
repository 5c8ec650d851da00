"""The routes that carry inference, and what differs between their protocols."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum

import orjson


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
    max_body_bytes: the largest body that makes sense; the setting may say less
    unknown: whether it is passed on without being known here
    operation: what it does, by OpenTelemetry's GenAI conventions; empty: nothing there
    """

    path: str
    dialect: Dialect
    streams: bool | None
    form: bool = False
    max_body_bytes: int = sys.maxsize
    unknown: bool = False
    operation: str = ""

    @property
    def label(self) -> str:
        """Its value in metrics: strangers' paths are one."""
        return "other" if self.unknown else self.path


_MIB = 1024 * 1024
_CHAT, _TEXT, _EMBED = "chat", "text_completion", "embeddings"
_OTHER = "generate_content"

ROUTES = {
    route.path: route
    for route in (
        Route("/api/generate", Dialect.OLLAMA, streams=True, operation=_TEXT),
        Route("/api/chat", Dialect.OLLAMA, streams=True, operation=_CHAT),
        Route("/api/embed", Dialect.OLLAMA, streams=None, operation=_EMBED),
        Route("/api/embeddings", Dialect.OLLAMA, streams=None, operation=_EMBED),
        Route("/api/show", Dialect.OLLAMA, streams=None, max_body_bytes=_MIB),
        Route("/v1/chat/completions", Dialect.OPENAI, streams=False, operation=_CHAT),
        Route("/v1/completions", Dialect.OPENAI, streams=False, operation=_TEXT),
        Route("/v1/embeddings", Dialect.OPENAI, streams=None, operation=_EMBED),
        Route("/v1/responses", Dialect.OPENAI, streams=False, operation=_CHAT),
        Route("/v1/images/generations", Dialect.OPENAI, streams=None, operation=_OTHER),
        Route("/v1/images/edits", Dialect.OPENAI, streams=None, operation=_OTHER),
        Route(
            "/v1/audio/transcriptions",
            Dialect.OPENAI,
            streams=None,
            form=True,
            operation=_OTHER,
        ),
        Route("/v1/messages", Dialect.ANTHROPIC, streams=False, operation=_CHAT),
    )
}


# Streams that end without any word where their runner dies (0.17.4).
WORDLESS = frozenset({"/v1/messages", "/v1/responses"})


def dialect_of(path: str) -> Dialect:
    """Return whose words an error on this path, known or not, is told in."""
    if route := ROUTES.get(path):
        return route.dialect
    if path.startswith("/v1/messages/"):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI if path.startswith(_AS_OPENAI) else Dialect.OLLAMA


_AS_OPENAI = ("/v1/", "/batches")
# What every Ollama has, so that a node without one of these is not an Ollama.
_EVERYWHERE = frozenset(
    {"/api/generate", "/api/chat", "/api/embeddings", "/api/show"}
    | {"/v1/chat/completions"}
)


def lacks_route(path: str, status: int, body: bytes) -> bool:
    """Whether an answer says that this node's release does not have the route.

    It says nothing of the node's health, nor of the request: others may have it.
    """
    if status != 404 or path in _EVERYWHERE or len(body) > _LONGEST_404:
        return False
    return (path not in ROUTES and b"model" not in body) or body.strip() == NO_ROUTE


NO_ROUTE = b"404 page not found"  # Ollama's own words, as plain text
_LONGEST_404 = 4096


def error_body(dialect: Dialect, status: int, message: str, code: str) -> bytes:
    """Render an error as the protocol's own error object."""
    if dialect is Dialect.OLLAMA:
        # The `ollama` command shows a 401's `status`, and nothing else of it.
        reported = {"status": message} if status == 401 else {}
        return orjson.dumps({"error": message, **reported})
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
