"""Routes, and errors in each route's own dialect."""

from __future__ import annotations

import json

import pytest

from router.relay.protocols import (
    NO_ROUTE,
    Dialect,
    dialect_of,
    error_body,
    error_frame,
    lacks_route,
)


def test_error_dialects():
    """The same error in three protocols' objects."""
    ollama, openai, anthropic = (
        json.loads(error_body(d, 404, "no", "not_found")) for d in Dialect
    )
    assert {"error": "no"} == ollama
    assert {
        "error": {
            "message": "no",
            "type": "not_found_error",
            "param": None,
            "code": "not_found",
        }
    } == openai
    expected = {"type": "error", "error": {"type": "not_found_error", "message": "no"}}
    assert expected == anthropic


@pytest.mark.parametrize(
    ("dialect", "start", "end"),
    [
        (Dialect.OLLAMA, b'{"error":"x"}', b"\n"),
        (Dialect.OPENAI, b'data: {"error":{"message":"x"', b"\n\n"),
        (Dialect.ANTHROPIC, b'event: error\ndata: {"type":"error"', b"\n\n"),
    ],
)
def test_error_frames(dialect, start, end):
    """A frame ends a stream as a line, or an event, of its own."""
    frame = error_frame(dialect, "x", "eof")
    assert frame.startswith(start)
    assert frame.endswith(end)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/v1/rerank", Dialect.OPENAI),
        ("/api/rerank", Dialect.OLLAMA),
    ],
)
def test_dialect_of_an_unknown_route(path, dialect):
    """An error on a route that only nodes know is in the words of its kind."""
    assert dialect is dialect_of(path)


@pytest.mark.parametrize(
    ("path", "status", "body", "lacks"),
    [
        ("/v1/messages", 404, NO_ROUTE, True),
        ("/v1/responses", 404, NO_ROUTE + b"\n", True),
        ("/v1/rerank", 404, NO_ROUTE, True),
        ("/v1/rerank", 404, b'{"detail":"Not Found"}', True),
        ("/v1/rerank", 404, b'{"error":"model \'m\' not found"}', False),
        ("/v1/rerank", 405, b"405 method not allowed", False),
        ("/v1/rerank", 404, b"<html>" + b" " * 10_000, False),
        ("/v1/messages", 404, b"<html>not found</html>", False),
        ("/api/chat", 404, NO_ROUTE, False),
    ],
)
def test_a_route_that_a_release_lacks(path, status, body, lacks):
    """Ollama's own 404 says so, but not where every Ollama has the route."""
    assert lacks is lacks_route(path, status, body)
