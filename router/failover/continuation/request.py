"""The client's request, as far as a continuation must understand it; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from router.errors import CannotContinueError
from router.text.json_scan import cheap

GENERATE = "/api/generate"
CHAT = "/api/chat"
OPENAI_CHAT = "/v1/chat/completions"
OPENAI_COMPLETIONS = "/v1/completions"
PATHS = frozenset({GENERATE, CHAT, OPENAI_CHAT, OPENAI_COMPLETIONS})

# Where none of these is in a body, nothing in it forbids to continue; a quote
# within a text is escaped, so that a text cannot hold one of them by chance.
# Go reads names in any case; looking ahead first halves what that costs each request.
_SIGNS = re.compile(
    rb'"(?<!\\")(?=[filrstFILRST])'
    rb"(?i:tools|tool_calls|tool|functions|format|response_format|suffix|logprobs"
    rb'|top_logprobs|images|image_url|think|reasoning|reasoning_effort)"'
)

_NATIVE_ONLY = {"options", "raw", "context", "template", "system"}
_NATIVE_ONLY |= {"keep_alive", "truncate", "shift"}
# What Ollama passes over on a route; it would mean something on another.
_IGNORED = {
    GENERATE: frozenset({"messages"}),
    CHAT: frozenset({"prompt", "raw", "context", "template", "system"}),
    OPENAI_CHAT: frozenset({"prompt", *_NATIVE_ONLY}),
    OPENAI_COMPLETIONS: frozenset({"messages", *_NATIVE_ONLY}),
}
# What is read here of a request that goes on; any may be null.
_KINDS: Mapping[str, type] = {
    "messages": list,
    "prompt": str,
    "template": str,
    "system": str,
    "options": dict,
    "stream_options": dict,
    "max_tokens": int,
}


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """The request that is continued.

    limit: the most tokens that it asks for; None where it sets no limit
    usage: whether its SSE stream is to end with the counters
    """

    path: str
    fields: Mapping[str, Any]
    limit: int | None
    usage: bool

    @property
    def chat(self) -> bool:
        return self.path in {CHAT, OPENAI_CHAT}

    @property
    def openai(self) -> bool:
        return self.path in {OPENAI_CHAT, OPENAI_COMPLETIONS}


def parse_request(path: str, body: bytes) -> OriginalRequest:
    """Read a body that the node has accepted, without what it passed over.

    Raises CannotContinueError for what is not understood: Go's reader is not ours.
    """
    try:
        loaded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CannotContinueError(_NOT_JSON) from error
    fields = {k: v for k, v in loaded.items() if k not in _IGNORED[path]}
    for name, kinds in _KINDS.items():
        _expect(name, fields.get(name), kinds)
    if path in {CHAT, OPENAI_CHAT}:
        fields["messages"] = fields.get("messages") or []
        for message in fields["messages"]:
            if not isinstance(message, dict):  # null is an empty one to Go
                raise CannotContinueError("a message is not understood")
    if path in {OPENAI_CHAT, OPENAI_COMPLETIONS}:
        _expect("stop", fields.get("stop"), (str, list))
        limit = fields.get("max_tokens")
        ending = fields.get("stream_options") or {}
        return OriginalRequest(path, fields, limit, bool(ending.get("include_usage")))
    options = fields.get("options") or {}
    _expect("options.stop", options.get("stop"), list)
    limit = options.get("num_predict")
    _expect("options.num_predict", limit, (int, float))
    return OriginalRequest(
        path, fields, None if limit is None else int(limit), usage=False
    )


# The node's reader takes half of a surrogate pair, and bytes that are no UTF-8.
_NOT_JSON = "the request is not strict JSON"


def _expect(name: str, value: object, kinds: type | tuple[type, ...]) -> None:
    if value is not None and not isinstance(value, kinds):
        raise CannotContinueError(f"the request's {name} is not understood")


def refusal(path: str, body: bytes) -> str | None:
    """Say why a stream must not be continued; None where it may be."""
    if path not in PATHS:
        return f"{path} streams are not continued"
    if not cheap(body):
        return "the request is too large to be read again"
    return _refusal(body) if _SIGNS.search(body) else None


def _refusal(body: bytes) -> str | None:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _NOT_JSON
    if any(map(_is_cased_sign, fields)):
        return "a field's name is not in lower case"
    for name, word in _FORBIDDEN.items():
        if fields.get(name):
            return word
    return _think_refusal(fields) or _format_refusal(fields) or _message_refusal(fields)


_FORBIDDEN = {
    "tools": "tools are in play",
    "functions": "tools are in play",
    "format": "the format is constrained",
    "suffix": "a suffix is to be met",
    "logprobs": "log probabilities are asked for",
    "top_logprobs": "log probabilities are asked for",
    "images": "images are in play",
}


def _think_refusal(fields: Mapping[str, Any]) -> str | None:
    reasoning = fields.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else reasoning
    asked = (fields.get("think"), effort, fields.get("reasoning_effort"))
    if any(each and each != "none" for each in asked):
        return "thinking is asked for"
    return None


def _format_refusal(fields: Mapping[str, Any]) -> str | None:
    wanted = fields.get("response_format")
    if not wanted or (isinstance(wanted, dict) and wanted.get("type") == "text"):
        return None
    return "the format is constrained"


def _message_refusal(fields: Mapping[str, Any]) -> str | None:
    messages = fields.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict) or any(map(_is_cased_sign, message)):
            return "a message is not understood"
        if message.get("tool_calls") or message.get("role") == "tool":
            return "tools are in play"
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        if message.get("images") or not all(map(_is_text, parts)):
            return "images are in play"
    return None


def _is_cased_sign(name: str) -> bool:
    return name != name.lower() and bool(_SIGNS.fullmatch(b'"%b"' % name.encode()))


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"
