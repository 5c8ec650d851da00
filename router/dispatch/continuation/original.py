"""The client's request, as far as a continuation must understand it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

GENERATE = "/api/generate"
CHAT = "/api/chat"
OPENAI_CHAT = "/v1/chat/completions"
OPENAI_COMPLETIONS = "/v1/completions"
PATHS = frozenset({GENERATE, CHAT, OPENAI_CHAT, OPENAI_COMPLETIONS})

# Where none of these is in a body, nothing in it forbids to continue; a quote
# within a text is escaped, so that a text cannot hold one of them by chance.
_SIGNS = tuple(
    f'"{name}"'.encode()
    for name in (
        *("tools", "tool_calls", "tool", "functions", "format", "response_format"),
        *("suffix", "logprobs", "top_logprobs", "images", "image_url"),
        *("think", "reasoning", "reasoning_effort"),
    )
)


@dataclass(frozen=True, slots=True)
class Original:
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


def read_original(path: str, body: bytes) -> Original:
    """Read a body that the node has accepted."""
    fields = orjson.loads(body)
    if path in {OPENAI_CHAT, OPENAI_COMPLETIONS}:
        limit = fields.get("max_tokens")
        options = fields.get("stream_options") or {}
        return Original(path, fields, limit, bool(options.get("include_usage")))
    limit = (fields.get("options") or {}).get("num_predict")
    return Original(path, fields, None if limit is None else int(limit), usage=False)


def refusal(path: str, body: bytes) -> str | None:
    """Say why a stream must not be continued; None where it may be."""
    if path not in PATHS:
        return f"{path} streams are not continued"
    if not any(sign in body for sign in _SIGNS):
        return None
    fields = orjson.loads(body)
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
    for message in fields.get("messages") or ():
        if message.get("tool_calls") or message.get("role") == "tool":
            return "tools are in play"
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        if message.get("images") or any(p.get("type") != "text" for p in parts):
            return "images are in play"
    return None
