"""Ollama ends a model that repeats a token without saying so: the router says it."""

from __future__ import annotations

import json

import pytest

from router.failover.repetition import completed, ending, lost_end, repeats, text_of

STUCK = " 48 49" + " 50" * 31


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STUCK, True),
        ("{" + "\n" * 30, True),
        ("ha" * 30, True),
        ("\u4f60" * 31, True),
        (" 50" * 29 + " 51", False),
        (" ".join(map(str, range(500))), False),
        (STUCK + " 51", False),
        ("", False),
    ],
    ids=["numbers", "blanks", "ha", "wide", "29", "counts", "went on", "nothing"],
)
def test_repeats(text, expected):
    """Thirty of the same at the end are one token that the model cannot leave."""
    assert expected is repeats(text)


# A line in the middle of each stream, as real Ollama 0.17.4 writes it, for one piece.
LINES = {
    "/api/chat": '{"model":"m","created_at":"t","message":{"role":"assistant",'
    '"content":%s},"done":false}\n',
    "/api/generate": '{"model":"m","created_at":"t","response":%s,"done":false}\n',
    "/v1/chat/completions": 'data: {"id":"c","object":"chat.completion.chunk",'
    '"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":%s},'
    '"finish_reason":null}]}\n\n',
    "/v1/completions": 'data: {"id":"c","choices":[{"text":%s,"index":0,'
    '"finish_reason":null}],"model":"m"}\n\n',
    "/v1/responses": "event: response.output_text.delta\n"
    'data: {"delta":%s,"sequence_number":7,"type":"response.output_text.delta"}\n\n',
    "/v1/messages": "event: content_block_delta\n"
    'data: {"type":"content_block_delta","index":0,"delta":'
    '{"type":"text_delta","text":%s}}\n\n',
}
ENDS = {
    "/api/chat": '"done":true,"done_reason":"length"}\n',
    "/api/generate": '"done":true,"done_reason":"length"}\n',
    "/v1/chat/completions": '"finish_reason":"length"}]}\n\ndata: [DONE]\n\n',
    "/v1/completions": '"model":"m"}\n\ndata: [DONE]\n\n',
    "/v1/responses": '"incomplete_details":{"reason":"max_output_tokens"}}}\n\n',
    "/v1/messages": 'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}


def lines(path: str, *pieces: str) -> bytes:
    return "".join(LINES[path] % json.dumps(each) for each in pieces).encode()


@pytest.mark.parametrize("path", LINES)
def test_ending(path):
    """Each dialect has its own end, and says that the answer was cut."""
    end = ending(path, lines(path, " 50")).decode()
    assert end.endswith(ENDS[path])
    assert "length" in end or "max_" in end


@pytest.mark.parametrize("path", LINES)
def test_lost_end(path):
    """By its text where that is kept, else by the last two tokens."""
    last = lines(path, " 50", " 50")
    assert lost_end(path, last, STUCK)
    assert lost_end(path, last, None)
    assert b"" == lost_end(path, last, " 1 2 3")
    assert lost_end(path, lines(path, " 49", *[" 50"] * 30), None), "in one piece"
    assert b"" == lost_end(path, lines(path, " 49", " 50"), None)
    assert b"" == lost_end(path, lines(path, " 49", *[" 50"] * 29), None)
    assert b"" == lost_end(path, lines(path, " 50"), None)


@pytest.mark.parametrize("path", LINES)
def test_text_of(path):
    """A whole stream's text can be read from its lines."""
    assert 'a "b"\n c' == text_of(lines(path, "a ", '"b"\n', " c"))


def test_a_continuation_ends_in_its_own_shape():
    """A later segment is Ollama's own stream, whatever the client reads."""
    end = ending("/v1/chat/completions", lines("/api/generate", " 50"))
    assert json.loads(end)["done_reason"] == "length"


WHOLE = {
    "/api/chat": {"message": {"role": "assistant", "content": STUCK}, "done": False},
    "/api/generate": {"response": STUCK, "done": False},
    "/v1/chat/completions": {
        "choices": [{"message": {"content": STUCK}, "finish_reason": None}]
    },
    "/v1/completions": {"choices": [{"text": STUCK, "finish_reason": None}]},
    "/v1/responses": {
        "status": "completed",
        "output": [{"content": [{"text": STUCK}]}],
        "usage": {"output_tokens": 0},
    },
    "/v1/messages": {
        "content": [{"type": "text", "text": STUCK}],
        "usage": {"output_tokens": 0},
    },
}


@pytest.mark.parametrize("path", WHOLE)
def test_completed(path):
    """A whole reply that was stopped says so."""
    body = json.dumps(WHOLE[path], separators=(",", ":")).encode()
    whole = completed(path, body)
    assert whole
    assert b"length" in whole or b"max_" in whole
    assert completed(path, whole) is None or path.startswith("/v1/")


def test_others_stay_as_they_are():
    """An answer that ends by itself, or is of another route, is not touched."""
    assert completed("/api/chat", b'{"message":{"content":"x"},"done":true}') is None
    assert completed("/api/chat", b'{"message":{"content":"x"},"done":false}') is None
    assert completed("/api/chat", b'{"message":5,"done":false}') is None
    assert completed("/api/embed", b'{"done":false}') is None
