"""Puts a native segment's text into the lines that the client has been reading; pure.

Ids, times and names are the first segment's; whatever else its lines hold stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from router.failover.continuation.request import (
    CHAT,
    GENERATE,
    OPENAI_CHAT,
    OriginalRequest,
)

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Totals:
    """The counters of the whole answer; tokens and seconds.

    context: generate's last ids, of prompt and answer; None: untold
    """

    prompt_tokens: int
    generated_tokens: int
    total_seconds: float
    load_seconds: float
    prompt_seconds: float
    generate_seconds: float
    context: list[int] | None = None


class StreamShape:
    """The client's stream, as its first line shows it."""

    def __init__(self, original: OriginalRequest, first: bytes) -> None:
        self._original = original
        end = b"\n\n" if original.openai else b"\n"
        line = first.partition(end)[0].removeprefix(b"data: ")
        self._first: Line = orjson.loads(line)

    @property
    def counts(self) -> bool:
        """Whether its end tells tokens."""
        return not self._original.openai or self._original.usage

    @property
    def created_at(self) -> str:
        """When the stream began, as its first line says it."""
        return str(self._first.get("created_at", ""))

    def piece(self, text: str, created_at: str) -> bytes:
        """Return the line for one piece of text."""
        if self._original.openai:
            return _event(self._choice(text, None))
        return _line(self._native(text, created_at) | {"done": False})

    def last(self, totals: Totals, reason: str, created_at: str) -> bytes:
        """Return what ends the stream."""
        if self._original.openai:
            return _event(self._choice("", reason)) + self.after_reason(totals)
        line = self._native("", created_at) | {"done": True, "done_reason": reason}
        if totals.context is not None and self._original.path == GENERATE:
            line["context"] = totals.context
        return _line({**line, **_counters(totals)})

    def after_reason(self, totals: Totals) -> bytes:
        """Return what follows OpenAI's `finish_reason`."""
        end = b"data: [DONE]\n\n"
        if not self._original.usage:
            return end
        usage = {
            "prompt_tokens": totals.prompt_tokens,
            "completion_tokens": totals.generated_tokens,
            "total_tokens": totals.prompt_tokens + totals.generated_tokens,
        }
        return _event({**self._first, "choices": [], "usage": usage}) + end

    def _native(self, text: str, created_at: str) -> Line:
        line: Line = {"model": self._first["model"], "created_at": created_at}
        if self._original.path == CHAT:
            return line | {"message": {"role": "assistant", "content": text}}
        return line | {"response": text}

    def _choice(self, text: str, reason: str | None) -> Line:
        if self._original.path == OPENAI_CHAT:
            delta = {"role": "assistant", "content": text}
            choice: Line = {"index": 0, "delta": delta, "finish_reason": reason}
        else:
            choice = {"text": text, "index": 0, "finish_reason": reason}
        return {**self._first, "choices": [choice]}


def _counters(totals: Totals) -> Mapping[str, int]:
    """Ollama's names, in nanoseconds; a zero is left out, as Ollama does."""
    values = {
        "total_duration": _ns(totals.total_seconds),
        "load_duration": _ns(totals.load_seconds),
        "prompt_eval_count": totals.prompt_tokens,
        "prompt_eval_duration": _ns(totals.prompt_seconds),
        "eval_count": totals.generated_tokens,
        "eval_duration": _ns(totals.generate_seconds),
    }
    return {name: value for name, value in values.items() if value}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _line(fields: Line) -> bytes:
    return orjson.dumps(fields) + b"\n"


def _event(fields: Line) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"
