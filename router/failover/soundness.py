"""Whether a 200 is an answer at all: what its route answers with, and not empty; pure.

Searches for a few bytes: an embedding of a megabyte is not parsed for this. An answer
without text is sound where its counters say that a token was generated: a model may
end at once, and Ollama 0.17.4 counts that end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from router.model import Cause
from router.relay.framing import message_in

__all__ = ["Unsound", "empty", "unsound", "unsound_start"]


@dataclass(frozen=True, slots=True)
class Unsound:
    """Why a reply is no answer; `unclear`: it may be what the request asks for."""

    cause: Cause
    text: str
    unclear: bool = False


# One of these keys is in every answer of its route.
_KEYS: dict[str, tuple[bytes, ...]] = {
    "/api/generate": (b'"response"', b'"done"', b'"_debug_info"'),
    "/api/chat": (b'"message"', b'"done"', b'"_debug_info"'),
    "/api/show": (b"{",),
    "/api/embed": (b'"embeddings"',),
    "/api/embeddings": (b'"embedding"',),
    "/v1/chat/completions": (b'"choices"', b'"_debug_info"'),
    "/v1/completions": (b'"choices"', b'"_debug_info"'),
    "/v1/embeddings": (b'"data"',),
    "/v1/responses": (b'"output"',),
    "/v1/messages": (b'"content"',),
}
# No vector of one that was asked for, or no choice at all; `[]` answers no input.
_HOLLOW = re.compile(
    rb'"(?:embeddings?|data|choices)":\s*(?:null|\[\s*\[\s*\])|"choices":\s*\[\s*\]'
)
_ERROR_WITHIN = 512  # an error object is short, or begins with the error


def unsound(path: str, content_type: str, body: bytes) -> Unsound | None:
    """Judge a 200 that was collected as a whole; None where it is an answer."""
    start = body[:64].lstrip()
    if not start:
        return Unsound(Cause.EMPTY, "an empty reply", unclear=True)
    keys = _KEYS.get(path)
    if keys is None and not content_type.startswith("text/html"):
        return None  # images, transcriptions: whatever they are
    if keys is None or not start.startswith(b"{"):
        kind = content_type or "no content type"
        return Unsound(Cause.NOT_OLLAMA, f"200 with {kind}, not a JSON object")
    return _unsound_object(keys, body)


def _unsound_object(keys: tuple[bytes, ...], body: bytes) -> Unsound | None:
    if b'"error"' in body[:_ERROR_WITHIN] and (text := message_in(body)):
        return Unsound(Cause.ERROR, text)
    fault = None
    long = len(body) > _LONG_BYTES
    if not (long or any(key in body for key in keys)):
        fault = f"200 without {_named(keys)}"
    elif not body[-64:].rstrip().endswith(b"}"):
        fault = "200 with a JSON object that is cut short"
    elif not long and b'"done":false' in body and b'"_debug_info"' not in body:
        fault = "a whole reply that is not done"
    elif len(body) <= _SHORT_BYTES and (hollow := _HOLLOW.search(body)):
        fault = f"200 with {hollow[0].decode()}"
    if fault:
        return Unsound(Cause.NONSENSE, fault, unclear=True)
    return _EMPTY if empty(body) else None


def _named(keys: tuple[bytes, ...]) -> str:
    return " or ".join(key.decode() for key in keys[:2])


# Text, thoughts, calls or numbers: a string that is not empty, or any of the others.
_CONTENT = re.compile(
    rb'"(?:response|content|text|thinking|reasoning|reasoning_content|delta|partial_json'
    rb'|refusal|arguments|b64_json|url|transcript)":\s*"[^"]'
    rb'|"(?:tool_calls|images)":\s*\[\s*[^\]\s]|"embeddings?":|"type":\s*"tool_use"'
    rb'|"type":\s*"function_call"|"_debug_info"|"data":\s*\['
)
# A token was counted, or none was asked for.
_COUNTED = re.compile(
    rb'"(?:eval_count|completion_tokens|output_tokens)":\s*[1-9]'
    rb'|"(?:done_reason|finish_reason)":\s*"(?:load|unload)"'
)
_DONE = re.compile(
    rb'"done":\s*true|data: \[DONE\]|"finish_reason":\s*"|"stop_reason":\s*"'
    rb'|"status":\s*"completed"'
)
_LONG_BYTES = 4 * 1024 * 1024  # of what is longer, only the ends are looked at
_SHORT_BYTES = 8192  # more than that is never without a word
_EMPTY = Unsound(Cause.EMPTY, "done without a token", unclear=True)


def empty(body: bytes) -> bool:
    """Say whether a reply, whole or a stream's lines, is done without any content."""
    if len(body) > _SHORT_BYTES or _CONTENT.search(body) or _COUNTED.search(body):
        return False
    return _DONE.search(body) is not None


_SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def unsound_start(body: bytes, *, sse: bool, over: bool) -> Unsound | None:
    """Judge a stream by its first lines; `over`: that is all of it."""
    start = body[:64].lstrip()
    if not start.startswith(_SSE_FIELDS if sse else b"{"):
        return Unsound(Cause.NONSENSE, "a stream that does not begin as one")
    return _EMPTY if over and empty(body) else None
