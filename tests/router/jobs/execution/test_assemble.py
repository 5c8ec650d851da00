"""Streams put together to what no stream would have been."""

from __future__ import annotations

import orjson
import pytest

from router.jobs.execution.assemble import AnswerAssembler
from router.jobs.model import CHAT, COMPLETIONS, DATASET_ENDPOINT
from router.relay.http1 import ProtocolError


def sse(*lines):
    events = [b"data: " + orjson.dumps(line) + b"\n\n" for line in lines]
    return b"".join(events) + b"data: [DONE]\n\n"


def ndjson(*lines):
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


HEAD = {"id": "chatcmpl-7", "created": 17, "model": "m", "system_fingerprint": "fp"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(delta, reason=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], **more}


def whole(path, data):
    """Feed it line by line, as a gate lets them through."""
    made = AnswerAssembler(path)
    end = b"\n\n" if path != DATASET_ENDPOINT else b"\n"
    for line in data.split(end)[:-1]:
        made.add(line + end)
    return made


def test_a_chat_of_openai():
    """Id and time are the first line's, reason and usage the last ones'."""
    data = sse(
        chunk({"role": "assistant", "content": "a\n"}),
        chunk({"role": "assistant", "content": "b"}),
        chunk({"role": "assistant", "content": ""}, "stop"),
        {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE},
    )
    made = whole(CHAT, data)
    message = {"role": "assistant", "content": "a\nb"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    assert {
        **HEAD,
        "object": "chat.completion",
        "choices": [choice],
        "usage": USAGE,
    } == orjson.loads(made.reply())
    assert 2 == made.tokens


def test_a_completion_of_openai():
    """Its chunks carry an empty usage each (0.17.4); the last one counts."""
    none = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    head = {**HEAD, "object": "text_completion"}
    data = sse(
        {**head, "choices": [{"text": "a", "index": 0, "finish_reason": None}]}
        | {"usage": none},
        {**head, "choices": [{"text": "", "index": 0, "finish_reason": "length"}]}
        | {"usage": none},
        {**head, "choices": [], "usage": USAGE},
    )
    choice = {"text": "a", "index": 0, "finish_reason": "length"}
    expected = {**head, "choices": [choice], "usage": USAGE}
    assert expected == orjson.loads(whole(COMPLETIONS, data).reply())


def test_a_chat_of_ollama():
    """The last line with the whole message, its thoughts as well."""
    data = ndjson(
        {"created_at": "1", "message": {"role": "assistant", "thinking": "hm"}},
        {"created_at": "2", "message": {"role": "assistant", "content": "a"}},
        {"created_at": "3", "message": {"role": "assistant", "content": "b"}},
        {"created_at": "4", "message": {"role": "assistant", "content": ""}}
        | {"done": True, "eval_count": 3},
    )
    message = {"role": "assistant", "thinking": "hm", "content": "ab"}
    expected = {"created_at": "4", "message": message, "done": True, "eval_count": 3}
    made = whole(DATASET_ENDPOINT, data)
    assert expected == orjson.loads(made.reply())
    assert 3 == made.tokens


@pytest.mark.parametrize(
    "data",
    [b"", b"no json\n", b"[]\n", b'{"message": 3}\n', b'{"done": true}\n'],
    ids=["nothing", "no JSON", "a list", "no message", "none at all"],
)
def test_what_is_no_stream_is_told(data):
    """Whoever reads it makes a failed try of that."""
    with pytest.raises(ProtocolError):
        whole(DATASET_ENDPOINT, data).reply()


def test_a_long_answer_is_whole():
    """Read on the way, a few KB at a time."""
    lines = [chunk({"role": "assistant", "content": f" {n}"}) for n in range(3000)]
    made = whole(CHAT, sse(*lines))
    content = orjson.loads(made.reply())["choices"][0]["message"]["content"]
    assert "".join(f" {n}" for n in range(3000)) == content
    assert 3000 == made.tokens
