"""The end of an answer that Ollama ended without saying so: one token, again and again.

Ollama 0.17.4 stops a model that says 30 equal tokens in a row: a stream then ends
cleanly without its last line, a whole reply says `"done":false`. That is the model's
doing on any node, and the answer's end. It is given out as `length`: the answer was
cut, as OpenAI says of a model that repeats blanks for ever; pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

__all__ = ["completed", "ending", "lost_end", "repeats", "text_of"]

_REPEATS = 30
# A token's text, over and over, up to the end of the answer.
_LOOP = re.compile(rf"(.{{1,64}}?)\1{{{_REPEATS - 1}}}\Z", re.DOTALL)
_MOST_CHARACTERS = 64 * (_REPEATS + 2)
_PIECE = re.compile(
    rb'"(?:response|content|text|delta|thinking|reasoning)":"((?:[^"\\]|\\.)+)"'
)


def repeats(text: str) -> bool:
    """Say whether a text ends in 30 or more of the same token."""
    return _LOOP.search(text[-_MOST_CHARACTERS:]) is not None


def lost_end(path: str, lines: bytes, text: str | None) -> bytes:
    """Return the end that a stream lacks; empty where it broke off otherwise.

    lines: the last ones that came
    text:  all of the answer; None where it is not kept, as that of a stream that could
           not be continued: then the last two tokens have to do
    """
    if text:
        return ending(path, lines) if repeats(text) else b""
    pieces = _PIECE.findall(lines)[-_REPEATS:]
    alike = len(pieces) >= 2 and len(set(pieces)) == 1
    return ending(path, lines) if alike else b""


def text_of(lines: bytes) -> str:
    """Return the text in a stream's lines."""
    escaped = b"".join(_PIECE.findall(lines))
    try:
        text: str = orjson.loads(b'"%b"' % escaped)
    except orjson.JSONDecodeError:
        return ""
    return text


def completed(path: str, body: bytes) -> bytes | None:
    """Give a whole reply its end; None where it needs none, or is not of this kind."""
    field = _UNFINISHED.get(path)
    if field is None or len(body) > _LONG_BYTES or field not in body:
        return None
    try:
        fields = orjson.loads(body)
        if repeats(_TEXTS[path](fields)):
            return orjson.dumps(_ended(path, fields))
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        pass
    return None


_LONG_BYTES = 4 * 1024 * 1024  # nothing that repeats itself is as long
# What a reply that was stopped holds, or lacks, by its route.
_UNFINISHED = {
    "/api/generate": b'"done":false',
    "/api/chat": b'"done":false',
    "/v1/chat/completions": b'"finish_reason":null',
    "/v1/completions": b'"finish_reason":null',
    "/v1/responses": b'"output_tokens":0',
    "/v1/messages": b'"output_tokens":0',
}
_TEXTS: Mapping[str, Callable[[Any], str]] = {
    "/api/generate": lambda f: f["response"],
    "/api/chat": lambda f: f["message"]["content"] or f["message"]["thinking"],
    "/v1/chat/completions": lambda f: f["choices"][0]["message"]["content"],
    "/v1/completions": lambda f: f["choices"][0]["text"],
    "/v1/responses": lambda f: f["output"][-1]["content"][-1]["text"],
    "/v1/messages": lambda f: f["content"][-1]["text"],
}


def _ended(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    if path.startswith("/api/"):
        return {**fields, "done": True, "done_reason": "length"}
    if path == "/v1/messages":
        return {**fields, "stop_reason": "max_tokens"}
    if path == "/v1/responses":
        return {**fields, **_INCOMPLETE}
    fields["choices"][0]["finish_reason"] = "length"
    return fields


_INCOMPLETE = {
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
}


def ending(path: str, last: bytes) -> bytes:
    """Return what ends a stream, made from its last line.

    The line tells the kind: a continuation is Ollama's own, whatever the client reads.
    """
    line = last.rstrip(b"\n").rpartition(b"\n")[2]
    make = _ENDINGS[path] if line.startswith(b"data: ") else _native
    try:
        return make(orjson.loads(line.removeprefix(b"data: ")))
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return b""


def _native(fields: dict[str, Any]) -> bytes:
    key = "message" if "message" in fields else "response"
    text = {"role": "assistant", "content": ""} if key == "message" else ""
    known = {name: fields[name] for name in ("model", "created_at") if name in fields}
    return (
        orjson.dumps({**known, key: text, "done": True, "done_reason": "length"})
        + b"\n"
    )


def _chat(fields: dict[str, Any]) -> bytes:
    delta = {"role": "assistant", "content": ""}
    return _openai(fields, {"index": 0, "delta": delta, "finish_reason": "length"})


def _completion(fields: dict[str, Any]) -> bytes:
    return _openai(fields, {"text": "", "index": 0, "finish_reason": "length"})


def _openai(fields: dict[str, Any], choice: dict[str, Any]) -> bytes:
    return _event({**fields, "choices": [choice]}) + b"data: [DONE]\n\n"


def _responses(fields: dict[str, Any]) -> bytes:
    response = {"object": "response", "output": [], "error": None, **_INCOMPLETE}
    number = fields.get("sequence_number", 0) + 1
    kind = "response.incomplete"
    return _event({"type": kind, "sequence_number": number, "response": response}, kind)


def _messages(fields: dict[str, Any]) -> bytes:
    stop = {"type": "content_block_stop", "index": fields.get("index", 0)}
    delta = {"stop_reason": "max_tokens", "stop_sequence": None}
    events = (
        stop,
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0}},
        {"type": "message_stop"},
    )
    return b"".join(_event(each, str(each["type"])) for each in events)


def _event(fields: dict[str, Any], name: str = "") -> bytes:
    head = b"event: %b\n" % name.encode() if name else b""
    return head + b"data: " + orjson.dumps(fields) + b"\n\n"


_ENDINGS: Mapping[str, Callable[[dict[str, Any]], bytes]] = {
    "/api/generate": _native,
    "/api/chat": _native,
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/responses": _responses,
    "/v1/messages": _messages,
}
