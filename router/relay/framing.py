"""A streamed reply cut into what may be sent on: whole lines, whole events.

A node that dies in the middle of a line must not leave half of it with the
client: no error frame and no continuation can repair that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import orjson

from router.model import DoneReason, Timings
from router.relay.done_reason import done_reason_in, done_reason_of
from router.relay.http1 import ProtocolError

MAX_LINE_BYTES = 16 * 1024 * 1024


# Where one of these is, a piece is looked at closely: a node may have failed.
_NDJSON_SIGNS = (b'{"error"',)
_SSE_SIGNS = (b'"model":""', b'data: {"error"', b"event: error")


class TextSink(Protocol):
    """Keeps a text: see `router.failover.continuation.transcript.Kept`."""

    blocks: list[bytes]

    @property
    def reads(self) -> int: ...

    @property
    def lines(self) -> int: ...

    def add(self, block: bytes) -> None: ...

    def compact(self) -> None: ...


class Framer:
    """Lets whole lines (NDJSON) or whole events (SSE) through, holds the rest.

    A line that says the node failed is held as well: `failure` is its text.
    `transcript`, where it is set, is given each piece that is let through.
    """

    def __init__(self, *, sse: bool) -> None:
        self.end = b"\n\n" if sse else b"\n"
        self._rest: bytes | bytearray = b""
        self._sse = sse
        self.signs = _SSE_SIGNS if sse else _NDJSON_SIGNS
        self.last = b""
        self.before = b""
        self.failure: str | None = None
        self.transcript: TextSink | None = None

    @property
    def held_bytes(self) -> int:
        """How much of a line waits for its end."""
        return len(self._rest)

    @property
    def between_lines(self) -> bool:
        """Whether nothing is held that must go out first."""
        return not self._rest

    def feed(self, payload: bytes) -> bytes:
        """Take a piece of the body, return what may be sent on."""
        block = self._cut(payload) if self._rest else self._cut_whole(payload)
        if not block:
            return b""
        if self._sse:
            if any(sign in block for sign in _SSE_SIGNS):
                block = self._hold_sse(block)
        elif block.startswith(b'{"error"') or b'\n{"error"' in block:
            block = self._hold_line(block)
        if block:
            self.before, self.last = self.last, block
            if self.transcript:
                self.transcript.add(block)
        return block

    def _cut_whole(self, payload: bytes) -> bytes:
        """Return the whole lines of a piece that begins one, and keep the rest."""
        cut = payload.rfind(self.end) + len(self.end)
        if cut < len(self.end):
            self._rest = payload
            return b""
        self._rest = payload[cut:]
        return payload[:cut]

    def _cut(self, payload: bytes) -> bytes:
        """Do the same for a piece in the middle of a line, however long that is."""
        rest = self._rest
        if not isinstance(rest, bytearray):
            self._rest = rest = bytearray(rest)
        searched = max(0, len(rest) - len(self.end) + 1)
        rest += payload
        cut = rest.rfind(self.end, searched) + len(self.end)
        if cut < len(self.end):
            if len(rest) > MAX_LINE_BYTES:
                raise ProtocolError(f"line over {MAX_LINE_BYTES} bytes")
            return b""
        self._rest = bytes(rest[cut:])
        return bytes(rest[:cut])

    def _hold_line(self, block: bytes) -> bytes:
        at = 0 if block.startswith(b'{"error"') else block.find(b'\n{"error"') + 1
        self.failure = message_in(block[at:].partition(b"\n")[0])
        return block[:at]

    def _hold_sse(self, block: bytes) -> bytes:
        """Cut at the event by which a node's failure shows on `/v1`.

        A dead runner leaves a delta with `"model":""` and then ends cleanly.
        Text that a model writes has its quotes escaped, so it cannot match.
        """
        passed = []
        for event in block.split(b"\n\n")[:-1]:
            if b'"model":""' in event:
                self.failure = "the model runner has stopped"
                break
            if event.startswith((b'data: {"error"', b"event: error")):
                self.failure = message_in(event.partition(b"data: ")[2])
                break
            passed.append(event + b"\n\n")
        return b"".join(passed)

    @property
    def finished(self) -> bool:
        """Whether the last thing let through is the protocol's own end."""
        if self._rest.strip():
            return False
        tail = self._tail()
        if not self._sse:
            return _says_done(tail.rpartition(b"\n")[2])
        return tail.endswith(b"data: [DONE]") or _SSE_ENDS.issuperset(
            {tail.rpartition(b"\n\n")[2].partition(b"\n")[0]}
        )

    def _tail(self) -> bytes:
        return (self._shortened(self.before) + self._shortened(self.last)).rstrip(b"\n")

    def _shortened(self, block: bytes) -> bytes:
        """Leave out what is far from the end, and the middle of a last line."""
        if len(block) <= _TAIL_BYTES:
            return block
        before = block.rfind(self.end, 0, -len(self.end))
        begin = before + len(self.end) if before >= 0 else 0
        if len(block) - begin <= _TAIL_BYTES:
            return block[-_TAIL_BYTES:]
        return block[begin : begin + _PARSED_BYTES] + block[-_PARSED_BYTES:]

    def timings(self) -> Timings:
        """Read the timings from the stream's last lines; zeros if there are none."""
        tail, timings = self._tail(), Timings()
        for line in reversed(tail.split(b"\n")):
            if b'"eval_count"' in line or b'"usage"' in line:
                timings = read_timings(line.removeprefix(b"data: "))
                break
        if timings.done_reason is DoneReason.NONE:  # on `/v1` another line tells it
            return timings._replace(done_reason=done_reason_in(tail))
        return timings


# How `/v1/responses` and Anthropic's `/v1/messages` say that a stream is whole.
_SSE_ENDS = frozenset(
    {b"event: message_stop", b"event: response.completed", b"event: response.failed"}
    | {b"event: response.incomplete"}
)


# What is longer is not parsed: a node's answer must not hold the event loop either.
_PARSED_BYTES = 64 * 1024
_EDGE_BYTES = 4096
_TAIL_BYTES = 4 * _PARSED_BYTES
_DONE = b'"done":true'  # as Go writes it; the quotes of a text are escaped


def _says_done(line: bytes) -> bool:
    if len(line) > _PARSED_BYTES:
        return _DONE in line[:_EDGE_BYTES] or _DONE in line[-_EDGE_BYTES:]
    try:
        return bool(orjson.loads(line).get("done"))
    except (orjson.JSONDecodeError, AttributeError):
        return False


_COUNTERS = re.compile(
    rb'"((?:prompt_eval|eval|total|load)_(?:count|duration)'
    rb'|(?:prompt|completion|input|output)_tokens)":(\d{1,18})\b'
)


def read_timings(reply: bytes) -> Timings:
    """Read Ollama's or OpenAI's counters from a reply's (last) JSON object.

    They stand at the end of it; of a long one only the end is read.
    """
    if len(reply) > _PARSED_BYTES:
        found = _COUNTERS.findall(reply[-_EDGE_BYTES:])
        counters = {name.decode(): int(value) for name, value in found}
        usage = any(name.endswith("_tokens") for name in counters)
        timings = read_timings_of({"usage": counters} if usage else counters)
        return timings._replace(done_reason=done_reason_in(reply))
    try:
        fields = orjson.loads(reply)
    except orjson.JSONDecodeError:
        return Timings()
    return read_timings_of(fields) if isinstance(fields, dict) else Timings()


def read_timings_of(fields: Mapping[str, object]) -> Timings:
    """Read the same counters from an object that is parsed already."""
    usage = fields.get("usage")
    if isinstance(usage, dict):
        return Timings(
            prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
            generated_tokens=_count(usage, "completion_tokens", "output_tokens"),
            done_reason=done_reason_of(fields),
        )
    return Timings(
        prompt_tokens=_count(fields, "prompt_eval_count"),
        generated_tokens=_count(fields, "eval_count"),
        prompt_seconds=_count(fields, "prompt_eval_duration") / 1e9,
        generate_seconds=_count(fields, "eval_duration") / 1e9,
        load_seconds=_count(fields, "load_duration") / 1e9,
        total_seconds=_count(fields, "total_duration") / 1e9,
        done_reason=done_reason_of(fields),
    )


def _count(fields: Mapping[str, object], *names: str) -> int:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return 0


def message_in(reply: bytes) -> str:
    """Read the text of an error in any of the dialects; empty if there is none."""
    if len(reply) > _PARSED_BYTES:
        return ""
    try:
        error = orjson.loads(reply).get("error") or ""
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    if isinstance(error, dict):
        error = error.get("message") or ""
    return str(error)


def is_sse(content_type: str) -> bool | None:
    """Tell the kind of stream; None where the reply is one whole piece."""
    if content_type.startswith("text/event-stream"):
        return True
    return False if content_type.startswith("application/x-ndjson") else None
