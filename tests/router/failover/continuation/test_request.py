"""What may be continued, by what was asked."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import CannotContinueError
from router.failover.continuation.proof import AnswerSoFar, prove
from router.failover.continuation.request import (
    CHAT,
    GENERATE,
    PATHS,
    parse_request,
    refusal,
)
from router.failover.continuation.request import OPENAI_CHAT as OPENAI
from tests.router.failover.continuation.stage import TableNode

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
        (CHAT, {"Tools": [{}]}, "a field's name is not in lower case"),
        (CHAT, {"messages": [{**SAID, "Tool_Calls": [{}]}]}, "a message is not"),
        (GENERATE, {"prompt": "Tools", "userId": "Think"}, None),
        (CHAT, {"messages": [None], "tools": []}, "a message is not understood"),
        (GENERATE, {"messages": True, "tools": []}, None),
        ("/v1/responses", {}, "/v1/responses streams are not continued"),
    ],
)
def test_refusal(path, more, why):
    """Each thing that forbids a continuation is seen, and texts never are one."""
    body = json.dumps({"model": "m", "messages": [SAID], **more}).encode()
    told = refusal(path, body)
    assert told is None if why is None else (told or "").startswith(why)


@pytest.mark.parametrize(
    ("path", "fields", "limit"),
    [
        (CHAT, {}, None),
        (CHAT, {"options": {"num_predict": 7}}, 7),
        (CHAT, {"options": None, "num_predict": 7}, None),
        (OPENAI, {"max_tokens": 5, "options": {"num_predict": 7}}, 5),
        (OPENAI, {"max_tokens": 5, "options": True}, 5),
        (GENERATE, {"messages": True}, None),
    ],
)
def test_limit(path, fields, limit):
    """The limit is read where the protocol has it."""
    assert limit == parse_request(path, json.dumps(fields).encode()).limit


# Names that are read here, and what may stand there by mistake or on purpose.
_SHAPED = ["messages", "prompt", "raw", "context", "template", "system", "options"]
_LIMITS = ["stop", "stream_options", "max_tokens", "keep_alive", "temperature", "top_p"]
_REFUSED = ["tools", "think", "reasoning", "response_format", "images", "tool_calls"]
_WITHIN = ["role", "content", "type", "num_predict", "include_usage", "seed"]
NAMES = st.sampled_from([*_SHAPED, *_LIMITS, *_REFUSED, *_WITHIN])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=8,
)


@pytest.mark.parametrize("text", [rb'"\ud83d"', b'"\xff"'])
def test_what_only_go_reads(text):
    """Half of an emoji goes to the node, and is not continued."""
    body = b'{"model": "m", "prompt": %b, "think": false}' % text
    assert refusal(GENERATE, body) == "the request is not strict JSON"
    with pytest.raises(CannotContinueError, match="not strict JSON"):
        parse_request(GENERATE, body)


def node(path, body):
    """Answer as the table node does, which refuses what it cannot render."""
    try:
        return TableNode()(path, body)
    except (LookupError, TypeError, AttributeError):
        raise CannotContinueError(f"{path}: 400: what is this?") from None


@given(st.sampled_from(sorted(PATHS)), st.dictionaries(NAMES, VALUES))
def test_whatever_a_node_accepts_is_judged(path, fields):
    """Any object is refused in words or goes to the proof, which may say no."""
    body = json.dumps({"model": "m", **fields}).encode()
    if refusal(path, body) is None:
        with suppress(CannotContinueError):
            splice = prove(
                parse_request(path, body), AnswerSoFar("104", "104", 1), node
            )
            assert splice.body["model"] == "m"
