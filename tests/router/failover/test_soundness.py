"""Whether a 200 is an answer: of its route's shape, and not empty."""

from __future__ import annotations

import pytest

from router.failover.soundness import empty, unsound, unsound_start
from router.model import Cause

JSON = "application/json"

# As real Ollama 0.17.4 answers; the model's first token is its end, or none was asked.
SOUND = {
    "/api/generate": [
        b'{"model":"m","response":" 6","done":true,"done_reason":"length"}',
        b'{"response":"","done":true,"done_reason":"stop","eval_count":1}',
        b'{"response":"","done":true,"done_reason":"load"}',
        b'{"response":"","done":true,"done_reason":"unload"}',
        b'{"response":"","done":false,"_debug_info":{"rendered_template":""}}',
        b'{"response":"","thinking":"hm","done":true}',
    ],
    "/api/chat": [
        b'{"message":{"role":"assistant","content":"hi"},"done":true}',
        b'{"message":{"role":"assistant","content":""},"done":true,"eval_count":1}',
        b'{"message":{"content":"","tool_calls":[{"function":{}}]},"done":true}',
        b'{"message":{"content":"\\"error\\""},"done":true}',
    ],
    "/api/embed": [b'{"model":"m","embeddings":[]}', b'{"embeddings":[[0.1]]}'],
    "/api/embeddings": [b'{"embedding":[]}'],
    "/api/show": [b'{"details":{}}'],
    "/v1/chat/completions": [
        b'{"choices":[{"message":{"content":""}}],"usage":{"completion_tokens":1}}',
        b'{"choices":[{"message":{"content":"x"},"finish_reason":null}]}',
    ],
    "/v1/completions": [
        b'{"choices":[{"text":"","finish_reason":"load"}],"usage":{}}',
    ],
    "/v1/embeddings": [b'{"object":"list","data":[]}'],
    "/v1/messages": [
        b'{"content":null,"stop_reason":"end_turn","usage":{"output_tokens":1}}',
        b'{"content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}',
        b'{"content":[{"type":"tool_use","input":{}}],"stop_reason":"tool_use"}',
    ],
    "/v1/responses": [
        b'{"status":"completed","output":[{"content":[{"text":"x"}]}]}',
        b'{"status":"completed","output":[{"type":"function_call"}]}',
        b'{"error":null,"output":[{"content":[{"type":"output_text","text":"x"}]}]}',
    ],
    "/v1/audio/transcriptions": [b"WEBVTT", b'{"text":""}'],
}


@pytest.mark.parametrize(
    ("path", "body"),
    [(path, body) for path, bodies in SOUND.items() for body in bodies],
)
def test_sound(path, body):
    """What a real one answers is an answer, the empty ones with counters too."""
    assert unsound(path, JSON, body) is None


@pytest.mark.parametrize(
    ("path", "kind", "body", "cause"),
    [
        ("/api/chat", JSON, b"", Cause.EMPTY),
        ("/api/chat", JSON, b'{"message":{"content":""},"done":true}', Cause.EMPTY),
        ("/api/generate", JSON, b'{"response":"","done":true}', Cause.EMPTY),
        (
            "/v1/chat/completions",
            JSON,
            b'{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}',
            Cause.EMPTY,
        ),
        ("/api/chat", JSON, b"{}", Cause.NONSENSE),
        ("/v1/messages", JSON, b'{"hello":"world"}', Cause.NONSENSE),
        ("/api/embed", JSON, b'{"message":"ok"}', Cause.NONSENSE),
        ("/api/embed", JSON, b'{"embeddings":null}', Cause.NONSENSE),
        ("/api/embed", JSON, b'{"embeddings":[[]]}', Cause.NONSENSE),
        ("/api/embeddings", JSON, b'{"embedding": null}', Cause.NONSENSE),
        ("/v1/embeddings", JSON, b'{"object":"list","data":null}', Cause.NONSENSE),
        ("/v1/chat/completions", JSON, b'{"choices":[]}', Cause.NONSENSE),
        (
            "/api/chat",
            JSON,
            b'{"message":{"content":"x"},"done":false}',
            Cause.NONSENSE,
        ),
        ("/api/chat", JSON, b'{"message":{"content":"x"', Cause.NONSENSE),
        ("/api/chat", "text/html", b"<html>Sign in</html>", Cause.NOT_OLLAMA),
        ("/api/chat", "text/plain", b"OK", Cause.NOT_OLLAMA),
        ("/api/embed", JSON, b"[]", Cause.NOT_OLLAMA),
        ("/api/show", "text/html", b"<html>", Cause.NOT_OLLAMA),
        ("/v1/audio/transcriptions", "text/html", b"<html>", Cause.NOT_OLLAMA),
        ("/api/chat", JSON, b'{"error":"boom"}', Cause.ERROR),
    ],
)
def test_unsound(path, kind, body, cause):
    """Login pages, other people's JSON, halves and silence are no answers."""
    found = unsound(path, kind, body)
    assert found is not None
    assert cause is found.cause


def test_a_long_reply_is_not_searched_through():
    """What is long is not empty."""
    assert not empty(b'{"done":true,"x":"' + b" " * 10_000 + b'"}')


@pytest.mark.parametrize(
    ("body", "sse", "over", "cause"),
    [
        (b'{"message":{"content":"x"},"done":false}\n', False, False, None),
        (b"data: {}\n\n", True, False, None),
        (b": ping\n\ndata: {}\n\n", True, False, None),
        (b"<html>\n", False, False, Cause.NONSENSE),
        (b"<html>\n\n", True, False, Cause.NONSENSE),
        (b'{"message":{"content":""},"done":true}\n', False, True, Cause.EMPTY),
        (b'{"message":{"content":""},"done":true,"eval_count":1}\n', False, True, None),
        (b"data: [DONE]\n\n", True, True, Cause.EMPTY),
        (b'{"message":{"content":""},"done":false}\n', False, False, None),
    ],
)
def test_streams(body, sse, over, cause):
    """A stream is judged by its first lines."""
    fault = unsound_start(body, sse=sse, over=over)
    assert cause is (fault.cause if fault else None)
