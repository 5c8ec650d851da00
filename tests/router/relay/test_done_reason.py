"""Why a reply ended: each dialect's word for it, whole and streamed."""

from __future__ import annotations

import pytest

from router.model import DoneReason
from router.relay.framing import Framer, read_timings

MIB = 1024 * 1024
LAST = b'{"model":"m","response":"","done":true,"done_reason":"%b","eval_count":4}'
CHOICE = b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":%b}],%b}'
USAGE = b'"usage":{"prompt_tokens":3,"completion_tokens":2}'
QUOTED = rb"\"done_reason\":\"length\", \"finish_reason\":\"length\""


def whole(text: bytes) -> DoneReason:
    return read_timings(text).done_reason


def streamed(*blocks: bytes, sse: bool) -> DoneReason:
    gate = Framer(sse=sse)
    for block in blocks:
        assert gate.feed(block)
    return gate.timings().done_reason


def event(data: bytes, name: bytes = b"") -> bytes:
    return (b"event: %b\n" % name if name else b"") + b"data: " + data + b"\n\n"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((each.value, each) for each in DoneReason),
        ("", DoneReason.NONE),
        ("a word of tomorrow", DoneReason.OTHER),
        ("\\u00e9" * 40, DoneReason.OTHER),
    ],
)
def test_native_words(word, reason):
    """They are labels as they are; what is not known is one label."""
    line = LAST % word.encode()
    assert reason is whole(line)
    assert reason is streamed(line + b"\n", sse=False)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (CHOICE % (b'"stop"', USAGE), DoneReason.STOP),
        (CHOICE % (b'"tool_calls"', USAGE), DoneReason.TOOL_CALLS),
        (CHOICE % (b"null", USAGE), DoneReason.NONE),
        (b'{"choices":[],' + USAGE + b"}", DoneReason.NONE),
        (b'{"choices":[3],' + USAGE + b"}", DoneReason.NONE),
        (b'{"stop_reason":"end_turn","usage":{}}', DoneReason.STOP),
        (b'{"stop_reason":"stop_sequence","usage":{}}', DoneReason.STOP),
        (b'{"stop_reason":"max_tokens","usage":{}}', DoneReason.LENGTH),
        (b'{"stop_reason":"tool_use","usage":{}}', DoneReason.TOOL_CALLS),
        (b'{"status":"completed","output":[]}', DoneReason.STOP),
        (b'{"status":"incomplete","output":[]}', DoneReason.LENGTH),
        (b'{"embeddings":[[1]],"prompt_eval_count":3}', DoneReason.NONE),
        (b'{"done_reason":7}', DoneReason.NONE),
    ],
)
def test_whole_replies(reply, reason):
    """OpenAI's, Anthropic's and the responses API's words mean Ollama's."""
    assert reason is whole(reply)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([CHOICE % (b'"length"', b'"x":1'), b"[DONE]"], DoneReason.LENGTH),
        (
            [CHOICE % (b'"tool_calls"', b'"x":1'), b'{"choices":[],' + USAGE + b"}"],
            DoneReason.TOOL_CALLS,
        ),
        ([b'{"delta":{"stop_reason":"end_turn"},"usage":{}}'], DoneReason.STOP),
        ([CHOICE % (b"null", b'"x":1'), b"[DONE]"], DoneReason.NONE),
    ],
)
def test_streams_of_events(events, reason):
    """The word stands in another event than the usage and the end."""
    assert reason is streamed(*map(event, events), sse=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"response.completed", DoneReason.STOP),
        (b"response.incomplete", DoneReason.LENGTH),
        (b"response.failed", DoneReason.OTHER),
        (b"response.output_text.delta", DoneReason.NONE),
    ],
)
def test_responses_say_it_by_their_event(name, reason):
    """`/v1/responses` has no key for it."""
    assert reason is streamed(event(b'{"response":{}}', name), sse=True)


def test_a_text_that_speaks_of_reasons():
    """What a model writes has its quotes escaped."""
    text = b'{"response":"' + QUOTED + b'","done":false}\n'
    assert DoneReason.NONE is streamed(text, sse=False)
    assert DoneReason.STOP is streamed(text + LAST % b"stop" + b"\n", sse=False)


@pytest.mark.parametrize(
    ("size", "reason"), [(MIB // 2, DoneReason.LENGTH), (2 * MIB, DoneReason.NONE)]
)
def test_a_reply_too_long_to_parse(size, reason):
    """Generate has its context behind the reason; a search is bounded all the same."""
    reply = LAST.removesuffix(b"}") % b"length" + b',"context":[' + b"1," * (size // 2)
    assert reason is whole(reply + b'1],"total_duration":9}')
