"""The text that a client has so far, kept for a continuation.

Kept as it came: a token costs an append to a list, by who passes it on. What is
longer than most answers is made plain, by one search for all lines. What cannot be
continued is not kept.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from router.failover.continuation.request import (
    CHAT,
    GENERATE,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
)

# 211 tokens, the mean answer of the Azure conversation trace, at 130 bytes a line.
_COMPACT_BYTES = 28_672
# A text longer than this is not continued: reading it again would take longer
# than most clients wait, and 300 such streams must fit.
MAX_KEPT_BYTES = 1024 * 1024
_MOST_TAKEN_BYTES = 2 * MAX_KEPT_BYTES  # at one time, with all that is not text

_STRING = rb'[^"\\]*(?:\\.[^"\\]*)*'
_PIECES = {
    GENERATE: re.compile(rb'"response":"(%b)"' % _STRING),
    CHAT: re.compile(rb'"content":"(%b)"' % _STRING),
    OPENAI_CHAT: re.compile(rb'"content":"(%b)"' % _STRING),
    OPENAI_COMPLETIONS: re.compile(rb'"text":"(%b)"' % _STRING),
}
# Go writes a byte that is no UTF-8 as this escape: the text is not what the model
# said. The others are names of fields: within a text their quotes are escaped.
_SIGNS = {
    b'"thinking":': "thinking was emitted",
    b'"reasoning":': "thinking was emitted",
    b'"reasoning_content":': "thinking was emitted",
    b'"tool_calls":': "a tool was called",
    b'"logprobs":[': "log probabilities were emitted",
    b"\\ufffd": "the text is not valid UTF-8",
}


class Transcript:
    """What one client has.

    first:   the stream's first lines, in the shape that the client reads
    pieces:  how many pieces with text there were; each is one token or more
    refusal: why the stream cannot be continued; None while it can
    reason:  the end that the client was told already (OpenAI's `finish_reason`)
    blocks:  what came and was not looked at yet; always this same list
    """

    def __init__(self, path: str) -> None:
        self.first = b""
        self.pieces = 0
        self._lines = self._reads = 0  # of what was looked at
        self.refusal: str | None = None
        self.reason: str | None = None
        self._pattern = _PIECES[path]
        self._end = b"\n\n" if path.startswith("/v1/") else b"\n"
        self._path = path
        self.blocks: list[bytes] = []
        self._added_bytes = 0
        self._texts: list[bytes] = []  # as JSON escapes it, without the quotes
        self._texts_bytes = 0
        self._last = b""

    def add(self, block: bytes) -> None:
        """Take a block of whole lines that goes to the client.

        A short one may be put into `blocks` instead, by who calls `compact` when
        there are many.
        """
        self.blocks.append(block)
        self._added_bytes += len(block)
        if self._added_bytes > _COMPACT_BYTES:
            self.compact()

    def add_text(self, piece: str, known: int = 0) -> None:
        """Take a piece that a continuation put into the client's shape.

        The client had its first `known` characters before.
        """
        if len(piece) > known and self.refusal is None:
            self.compact()
            self._keep(_escaped(piece[known:]), 0 if known else 1)
            self._last = _escaped(piece)

    @property
    def reads(self) -> int:
        """Return how many blocks came: at once, and no more than there are lines."""
        return self._reads + len(self.blocks)

    @property
    def lines(self) -> int:
        """Return how many lines, or events, came."""
        return self._lines + b"".join(self.blocks).count(self._end)

    @property
    def size(self) -> int:
        """Return bytes of what is kept."""
        return self._texts_bytes + sum(map(len, self.blocks))

    def text(self) -> str:
        """Return all of it; what `refusal` says comes first."""
        self.compact()
        return _plain(b"".join(self._texts))

    def last(self) -> str:
        """Return the last piece of it: what was before ends where a token does."""
        self.compact()
        return _plain(self._last)

    def settle(self) -> str | None:
        """Look at all that is kept; returns the refusal."""
        self.compact()
        return self.refusal

    def compact(self) -> None:
        """Make plain what is in `blocks`."""
        if not self.blocks:
            return
        data = b"".join(self.blocks)
        self.first = self.first or self.blocks[0]
        self._reads += len(self.blocks)
        self.blocks.clear()
        self._added_bytes = 0
        lines = data.count(self._end)
        self._lines += lines
        if self.refusal is None:
            self._take(data, lines)

    def _take(self, data: bytes, lines: int) -> None:
        if len(data) > _MOST_TAKEN_BYTES:
            self._refuse(f"the text is over {MAX_KEPT_BYTES} bytes")
            return
        for sign, why in _SIGNS.items():
            if sign in data:
                self._refuse(why)
                return
        found = self._pattern.findall(data)
        if len(found) != lines or b'"finish_reason":"' in data:
            self._take_slowly(data)
            return
        self._keep(b"".join(found), len(found) - found.count(b""))
        self._last = next(filter(None, reversed(found)), self._last)

    def _take_slowly(self, data: bytes) -> None:
        """Take lines that are not all alike, as at the end of a stream."""
        try:
            for line in filter(None, data.split(self._end)):
                self._take_line(line.removeprefix(b"data: "))
        except (orjson.JSONDecodeError, AttributeError, LookupError, TypeError):
            self._refuse("a line is not understood")

    def _take_line(self, line: bytes) -> None:
        if line == b"[DONE]":
            return
        fields = orjson.loads(line)
        text = piece_of(self._path, fields)
        choices = fields.get("choices")
        if choices:
            self.reason = choices[0].get("finish_reason") or self.reason
        if text:
            self._last = _escaped(text)
            self._keep(self._last, 1)

    def _keep(self, escaped: bytes, pieces: int) -> None:
        self._texts.append(escaped)
        self._texts_bytes += len(escaped)
        self.pieces += pieces
        if self._texts_bytes > MAX_KEPT_BYTES:
            self._refuse(f"the text is over {MAX_KEPT_BYTES} bytes")

    def _refuse(self, why: str) -> None:
        self.refusal = why
        self._texts.clear()


def _escaped(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]


def _plain(escaped: bytes) -> str:
    text: str = orjson.loads(b'"%b"' % escaped)
    return text


def piece_of(path: str, fields: dict[str, Any]) -> str:
    """Return the text in one line of a stream."""
    if path == GENERATE:
        return fields["response"] or ""
    if path == CHAT:
        return fields["message"]["content"] or ""
    if not fields["choices"]:
        return ""
    choice = fields["choices"][0]
    if path == OPENAI_COMPLETIONS:
        return choice["text"] or ""
    return choice["delta"].get("content") or ""
