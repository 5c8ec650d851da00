"""What may be continued, by what was asked."""

from __future__ import annotations

import json

import pytest

from router.dispatch.continuation.original import read_original, refusal

CHAT, GENERATE, OPENAI = "/api/chat", "/api/generate", "/v1/chat/completions"
SAID = {"role": "user", "content": 'say "tools" and "format"'}


@pytest.mark.parametrize(
    ("path", "more", "why"),
    [
        (CHAT, {}, None),
        (CHAT, {"tools": [], "format": "", "think": False, "logprobs": False}, None),
        (OPENAI, {"response_format": {"type": "text"}}, None),
        (OPENAI, {"reasoning_effort": "none", "logprobs": None}, None),
        (CHAT, {"tools": [{"type": "function"}]}, "tools are in play"),
        (CHAT, {"format": "json"}, "the format is constrained"),
        (OPENAI, {"response_format": {"type": "json_object"}}, "the format is"),
        (CHAT, {"think": True}, "thinking is asked for"),
        (CHAT, {"think": "low"}, "thinking is asked for"),
        (OPENAI, {"reasoning": {"effort": "high"}}, "thinking is asked for"),
        (OPENAI, {"logprobs": True}, "log probabilities"),
        (GENERATE, {"suffix": "}"}, "a suffix"),
        (GENERATE, {"images": ["aGk="]}, "images are in play"),
        (CHAT, {"messages": [{**SAID, "images": ["aGk="]}]}, "images are in play"),
        (
            OPENAI,
            {"messages": [{**SAID, "content": [{"type": "image_url"}]}]},
            "images are in play",
        ),
        (CHAT, {"messages": [SAID, {"role": "tool", "content": "7"}]}, "tools are"),
        ("/v1/responses", {}, "/v1/responses streams are not continued"),
    ],
)
def test_refusal(path, more, why):
    """Each thing that forbids a continuation is seen, and texts never are one."""
    body = json.dumps({"model": "m", "messages": [SAID], **more}).encode()
    told = refusal(path, body)
    assert told is None if why is None else told.startswith(why)


@pytest.mark.parametrize(
    ("path", "fields", "limit"),
    [
        (CHAT, {}, None),
        (CHAT, {"options": {"num_predict": 7}}, 7),
        (CHAT, {"options": None, "num_predict": 7}, None),
        (OPENAI, {"max_tokens": 5, "options": {"num_predict": 7}}, 5),
    ],
)
def test_limit(path, fields, limit):
    """The limit is read where the protocol has it."""
    assert limit == read_original(path, json.dumps(fields).encode()).limit
