"""How an answer looks on the wire: Ollama's NDJSON and OpenAI's SSE; pure.

Field by field and in the order of Ollama 0.17.4. What is the same for every
token of a stream is made once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from simulator.http import chunk
from simulator.runner import Job
from simulator.text import Answer

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
OPENAI_JSON = "application/json"
SSE = "text/event-stream"

MID_STREAM_ERROR = "an error was encountered while running the model: unexpected EOF"


class Route(StrEnum):
    """The calls that generate text."""

    GENERATE = "generate"
    CHAT = "chat"
    CHAT_COMPLETIONS = "chat/completions"
    COMPLETIONS = "completions"

    @property
    def openai(self) -> bool:
        return self in (Route.CHAT_COMPLETIONS, Route.COMPLETIONS)


def dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_SCHEDULING_NS = 2_000_000  # what Ollama takes to find a resident model's runner


@dataclass(frozen=True, slots=True)
class _Line:
    """A token's line: all but the time and the piece of text."""

    before: bytes
    between: bytes
    after: bytes

    def chunks(self, answer: Answer, first: int, last: int, stamp: bytes) -> bytes:
        head = b"%b%b%b" % (self.before, stamp, self.between)
        fixed, after = len(head) + len(self.after), self.after
        parts = []
        for index in range(first, last):
            piece = answer.piece(index).encode()  # digits and spaces: nothing to escape
            line = (fixed + len(piece), head, piece, after)
            parts.append(b"%x\r\n%b%b%b\r\n" % line)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Voice:
    """What a dialect needs to know of one request.

    context: ids of the whole conversation, for generate's last line; None: none
    usage:   whether an SSE stream ends with its usage
    """

    route: Route
    model: str
    number: int = 0
    created: int = 0
    context: Sequence[int] | None = None
    usage: bool = False


class Native:
    """`/api/generate` and `/api/chat`."""

    content_type = NDJSON
    whole_type = JSON

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        start = b'{"model":%b,"created_at":"' % dumps(voice.model)
        if voice.route is Route.CHAT:
            opening = b'","message":{"role":"assistant","content":"'
            self._line = _Line(start, opening, b'"},"done":false}\n')
        else:
            self._line = _Line(start, b'","response":"', b'","done":false}\n')

    def tokens(self, answer: Answer, first: int, last: int, stamp: str) -> bytes:
        return self._line.chunks(answer, first, last, stamp.encode())

    def end(self, job: Job, answer: Answer, stamp: str) -> bytes:
        last = self._last(job, answer.reason, "", stamp)
        return chunk(dumps(last) + b"\n")

    def whole(self, job: Job, answer: Answer, stamp: str) -> bytes:
        return dumps(self._last(job, answer.reason, answer.text, stamp))

    def died(self) -> bytes:
        return chunk(dumps({"error": MID_STREAM_ERROR}) + b"\n")

    def load(self, reason: str, stamp: str) -> bytes:
        """Answer a call that only loads or unloads."""
        done = {"done": True, "done_reason": reason}
        return dumps({**self._start("", stamp), **done})

    def rendered(self, prompt: str, stamp: str) -> bytes:
        """Answer `_debug_render_only`."""
        start = self._start("", stamp)
        if "message" in start:
            start["message"] = {"role": "", "content": ""}
        info = {"rendered_template": prompt}
        return dumps({**start, "done": False, "_debug_info": info})

    def _start(self, text: str, stamp: str) -> dict[str, Any]:
        start = {"model": self._voice.model, "created_at": stamp}
        if self._voice.route is Route.CHAT:
            return {**start, "message": {"role": "assistant", "content": text}}
        return {**start, "response": text}

    def _last(
        self, job: Job, reason: str, text: str, stamp: str
    ) -> Mapping[str, object]:
        last = self._start(text, stamp) | {"done": True, "done_reason": reason}
        if self._voice.context is not None:
            last["context"] = self._voice.context
        return last | timings(job)


class OpenAi:
    """`/v1/chat/completions` and `/v1/completions`."""

    content_type = SSE
    whole_type = OPENAI_JSON

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._chat = voice.route is Route.CHAT_COMPLETIONS
        probe = self._frame("\0", None)
        before, after = (b"data: %b\n\n" % dumps(probe)).split(b"\\u0000")
        self._line = _Line(b"", before, after)

    def tokens(self, answer: Answer, first: int, last: int, stamp: str) -> bytes:  # noqa: ARG002  as Native
        return self._line.chunks(answer, first, last, b"")

    def end(self, job: Job, answer: Answer, stamp: str) -> bytes:  # noqa: ARG002  as Native
        frames = _sse(self._frame("", answer.reason))
        if self._voice.usage:
            usage = self._frame("", None) | {"choices": [], "usage": _usage(job)}
            frames += _sse(usage)
        return frames + chunk(b"data: [DONE]\n\n")

    def whole(self, job: Job, answer: Answer, stamp: str) -> bytes:  # noqa: ARG002  as Native
        return self._body(answer.text, answer.reason, _usage(job))

    def died(self) -> bytes:
        """Say nothing of the error, as Ollama: one more empty delta of no model."""
        return _sse(self._frame("", None) | {"model": ""})

    def load(self, reason: str, stamp: str) -> bytes:  # noqa: ARG002  as Native
        return self._body("", reason, _NO_USAGE)

    def rendered(self, prompt: str, stamp: str) -> bytes:  # noqa: ARG002  as Native
        info = {"rendered_template": prompt}
        return self._body("", None, _NO_USAGE, role="", _debug_info=info)

    def _body(
        self,
        text: str,
        reason: str | None,
        usage: Mapping[str, int],
        *,
        role: str = "assistant",
        **more: object,
    ) -> bytes:
        kind = "chat.completion" if self._chat else "text_completion"
        body = self._common(kind, self._voice.model)
        body["choices"] = [self._choice(text, reason, "message", role)]
        return dumps({**body, "usage": usage, **more}) + b"\n"

    def _frame(self, text: str, reason: str | None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        common = self._common(kind, self._voice.model)
        choices = [self._choice(text, reason, "delta", "assistant")]
        if self._chat:
            return common | {"choices": choices}
        tail = {key: common.pop(key) for key in ("model", "system_fingerprint")}
        # Ollama 0.17.4 puts an empty usage into each of these, when asked for usage
        usage = {"usage": _NO_USAGE} if self._voice.usage else {}
        return common | {"choices": choices} | tail | usage

    def _common(self, kind: str, model: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self._chat else "cmpl"
        return {
            "id": f"{prefix}-{self._voice.number}",
            "object": kind,
            "created": self._voice.created,
            "model": model,
            "system_fingerprint": "fp_ollama",
        }

    def _choice(
        self, text: str, reason: str | None, field: str, role: str
    ) -> dict[str, Any]:
        if not self._chat:
            return {"text": text, "index": 0, "finish_reason": reason}
        message = {"role": role, "content": text}
        return {"index": 0, field: message, "finish_reason": reason}


Dialect = Native | OpenAi


def dialect(voice: Voice) -> Dialect:
    return OpenAi(voice) if voice.route.openai else Native(voice)


def timings(job: Job) -> dict[str, int]:
    """Ollama's counters, in nanoseconds; a zero is left out."""
    values = {
        "total_duration": _ns(job.done_at - job.submitted_at) + _SCHEDULING_NS,
        "load_duration": _ns(job.ready_at - job.submitted_at) + _SCHEDULING_NS,
        "prompt_eval_count": job.prompt_tokens,
        "prompt_eval_duration": _ns(job.decode_at - job.started_at),
        "eval_count": job.tokens,
        "eval_duration": _ns(job.done_at - job.decode_at),
    }
    return {name: value for name, value in values.items() if value}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _usage(job: Job) -> dict[str, int]:
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.tokens,
        "total_tokens": job.prompt_tokens + job.tokens,
    }


def _sse(frame: Mapping[str, object]) -> bytes:
    return chunk(b"data: %b\n\n" % dumps(frame))
