"""Assemble a stream into the reply that Ollama sends without streaming."""

from __future__ import annotations

from typing import Any

import orjson

from router.jobs.model import CHAT, DATASET_ENDPOINT
from router.relay.http1 import ProtocolError

_COMPACT_BYTES = 8_192
_MOST_BYTES = 64 * 1024 * 1024

# Fields that grow with each line; other fields are those of the last line.
_GROWS = frozenset({"content", "thinking", "reasoning", "reasoning_content", "text"})


class AnswerAssembler:
    """Assembles the reply from blocks of complete lines, in the order they arrive.

    tokens: lines with text so far, each at least one token
    """

    def __init__(self, path: str) -> None:
        self.tokens = 0
        self._path = path
        self._openai = path != DATASET_ENDPOINT
        self._blocks: list[bytes] = []
        self._waiting = 0
        self._size = 0
        self._first: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._reason: str | None = None
        self._usage: object = None

    def add(self, block: bytes) -> None:
        """Add a block. Raises ProtocolError: an invalid line, or too large a reply."""
        self._blocks.append(block)
        self._waiting += len(block)
        if self._waiting > _COMPACT_BYTES:
            self.settle()

    def settle(self) -> None:
        """Parse the blocks added so far. Raises ProtocolError."""
        data = b"".join(self._blocks)
        self._blocks.clear()
        self._waiting = 0
        self._size += len(data)
        if self._size > _MOST_BYTES:
            raise ProtocolError(f"reply over {_MOST_BYTES} bytes")
        for line in filter(None, data.split(b"\n")):
            try:
                self._line(line.removeprefix(b"data: "))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise ProtocolError(f"not a line of a stream: {line[:80]!r}") from error
        for parts in self._texts.values():
            parts[:] = ["".join(parts)]  # a text of its own costs 50 bytes a token

    def reply(self) -> bytes:
        """Return the reply's body. Raises ProtocolError if the stream was empty."""
        self.settle()
        if not self._first:
            raise ProtocolError("the stream was empty")
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        if self._openai:
            return orjson.dumps(self._openai_reply(texts))
        message = {**self._message, **texts}
        return orjson.dumps({**self._last, "message": message})

    def _openai_reply(self, texts: dict[str, str]) -> dict[str, Any]:
        reply = {k: v for k, v in self._first.items() if k not in {"choices", "usage"}}
        choice: dict[str, Any] = {"index": 0}
        if self._path == CHAT:
            reply["object"] = "chat.completion"
            choice["message"] = {**self._message, **texts}
        else:
            choice |= {"text": "", **texts}
        reply["choices"] = [choice | {"finish_reason": self._reason}]
        if self._usage is not None:
            reply["usage"] = self._usage
        return reply

    def _line(self, line: bytes) -> None:
        if line == b"[DONE]":
            return
        fields = orjson.loads(line)
        self._first = self._first or fields
        self._last = fields
        if self._openai:
            self._usage = fields.get("usage") or self._usage
            choices = fields.get("choices")
            if not choices:
                return
            self._reason = choices[0].get("finish_reason") or self._reason
            self._take(choices[0]["delta"] if self._path == CHAT else choices[0])
        else:
            self._take(fields["message"])

    def _take(self, said: dict[str, Any]) -> None:
        text = False
        for name, value in said.items():
            if name in _GROWS and isinstance(value, str):
                self._texts.setdefault(name, []).append(value)
                text = text or bool(value)
            else:
                self._message[name] = value
        self.tokens += text
