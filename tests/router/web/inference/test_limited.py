"""The cap of an answer's tokens in each protocol, and the headers."""

from __future__ import annotations

import orjson
import pytest

from router.access.limits import LimitStatus
from router.relay.protocols import ROUTES, Dialect
from router.web.inference.limited import capped, estimated_tokens, limit_headers


@pytest.mark.parametrize(
    ("path", "asked", "expected"),
    [
        ("/api/chat", {}, {"options": {"num_predict": 9}}),
        ("/api/chat", {"options": {"num_predict": -1, "seed": 1}}, None),
        ("/api/generate", {"options": {"num_predict": 3}}, None),
        ("/v1/chat/completions", {}, {"max_tokens": 9}),
        ("/v1/chat/completions", {"max_completion_tokens": 50}, None),
        ("/v1/completions", {"max_tokens": 5}, {"max_tokens": 5}),
        ("/v1/responses", {}, {"max_output_tokens": 9}),
        ("/v1/messages", {"max_tokens": 4096}, {"max_tokens": 9}),
        ("/api/embed", {"input": "x"}, {"input": "x"}),
    ],
)
def test_capped(path, asked, expected):
    """Less stays, more and nothing become the limit; the rest is not touched."""
    special = {
        -1: {"options": {"num_predict": 9, "seed": 1}},
        3: {"options": {"num_predict": 3}},
    }
    if expected is None:
        options = asked.get("options", {})
        expected = special.get(options.get("num_predict"), {"max_completion_tokens": 9})
    body = orjson.dumps({"model": "m", **asked})
    assert {"model": "m", **expected} == orjson.loads(capped(ROUTES[path], body, 9))


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("/api/chat", {"num_ctx": 8192, "seed": 1}, {"num_ctx": 100, "seed": 1}),
        ("/api/embed", {"num_ctx": 8192}, {"num_ctx": 100}),
        ("/api/chat", {"num_ctx": 64}, {"num_ctx": 64}),
        ("/api/chat", {"seed": 1}, {"seed": 1}),
        ("/api/chat", {"num_ctx": "many"}, {"num_ctx": "many"}),
        ("/v1/chat/completions", {"num_ctx": 8192}, {"num_ctx": 8192}),
    ],
)
def test_a_window_that_is_asked_for(path, options, expected):
    """A larger one becomes the limit; without one the node's own stays."""
    body = orjson.dumps({"model": "m", "options": options})
    found = orjson.loads(capped(ROUTES[path], body, None, 100))
    assert {"model": "m", "options": expected} == found


def test_what_is_no_json_is_the_nodes_to_refuse():
    """It goes on as it came."""
    assert b"{" == capped(ROUTES["/api/chat"], b"{", 9)
    assert b"[]" == capped(ROUTES["/api/chat"], b"[]", 9)


def test_headers():
    """OpenAI's names, and Anthropic's with a time."""
    usage = [LimitStatus("requests", 60, 59, 12.2)]
    assert [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "13s"),
    ] == limit_headers(Dialect.OPENAI, usage, 0.0)
    assert [
        ("anthropic-ratelimit-requests-limit", "60"),
        ("anthropic-ratelimit-requests-remaining", "59"),
        ("anthropic-ratelimit-requests-reset", "1970-01-01T00:00:12Z"),
    ] == limit_headers(Dialect.ANTHROPIC, usage, 0.0)


def test_estimate():
    """By the size of an event for each token, and of a word's part for the prompt."""
    assert 110 == estimated_tokens(ROUTES["/api/chat"], 40, 13_000)
