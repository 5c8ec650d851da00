"""An inference under way: what the engine has made goes to the client's reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from simulator.body import ApiError
from simulator.dialect import JSON, MID_STREAM_ERROR, OPENAI_JSON, Dialect, dumps
from simulator.faults import RUNNER_DIED, Cut
from simulator.http import Reply
from simulator.runner import Job, Phase
from simulator.text import Answer


class Exchange(Protocol):
    """A job and the reply that it feeds."""

    job: Job
    reply: Reply

    def poll(self, stamp: str) -> bool:
        """Send what is ready; tells whether the exchange is over."""
        ...


def send_error(reply: Reply, error: ApiError, *, openai: bool) -> None:
    """Answer with an error in the dialect of the route."""
    if not openai:
        reply.send(error.status, dumps({"error": error.text}), JSON)
        return
    body = {"message": error.text, "type": error.kind, "param": None, "code": None}
    early = error.kind == "invalid_request_error"  # Ollama's two writers differ
    content_type, end = (JSON, b"") if early else (OPENAI_JSON, b"\n")
    reply.send(error.status, dumps({"error": body}) + end, content_type)


class Whole:
    """A reply in one piece, sent when the job is done."""

    def __init__(
        self,
        job: Job,
        reply: Reply,
        render: Callable[[str], tuple[bytes, str]],
        *,
        openai: bool,
        cut: Cut | None = None,
    ) -> None:
        self.job = job
        self.reply = reply
        self._render = render
        self._openai = openai
        self._cut = cut

    def poll(self, stamp: str) -> bool:
        job = self.job
        if job.phase is Phase.FAILED:
            error = ApiError(500, job.error)
            send_error(self.reply, error, openai=self._openai)
            return True
        cut = self._cut
        if cut is not None and job.answering and job.ready_tokens >= cut.tokens:
            self._die(cut)
            return True
        if job.phase is not Phase.DONE:
            return False
        body, content_type = self._render(stamp)
        self.reply.send(200, body, content_type)
        return True

    def _die(self, cut: Cut) -> None:
        if cut.variant == "socket":
            self.reply.reset()
        elif cut.variant == "line":
            self.reply.close()
        else:
            text = MID_STREAM_ERROR if cut.tokens else RUNNER_DIED
            send_error(self.reply, ApiError(500, text), openai=self._openai)


class Stream:
    """A reply token by token; not a byte, not even a head, before the first."""

    def __init__(
        self,
        job: Job,
        reply: Reply,
        answer: Answer,
        dialect: Dialect,
        *,
        openai: bool,
        cut: Cut | None = None,
    ) -> None:
        self.job = job
        self.reply = reply
        self._answer = answer
        self._dialect = dialect
        self._openai = openai
        self._cut = cut
        self._sent = 0

    def poll(self, stamp: str) -> bool:
        job = self.job
        if job.phase is Phase.FAILED:
            error = ApiError(500, job.error)
            send_error(self.reply, error, openai=self._openai)
            return True
        if self.reply.blocked or not job.answering:
            return False
        over = job.phase is Phase.DONE
        answer = self._answer
        ready = answer.pieces if over else min(job.ready_tokens, answer.shown)
        cut = self._cut
        if cut is not None and job.ready_tokens >= cut.tokens:
            self._write(min(ready, cut.tokens), stamp)
            self._die(cut, stamp)
            return True
        chunks = self._chunks(ready, stamp)
        if over:
            chunks += self._dialect.end(job, self._answer, stamp)
        if chunks:
            self.reply.write(chunks, self._dialect.content_type)
        if over:
            self.reply.finish()
        return over

    def _chunks(self, ready: int, stamp: str) -> bytes:
        first, self._sent = self._sent, max(self._sent, ready)
        if first >= ready:
            return b""
        return self._dialect.tokens(self._answer, first, ready, stamp)

    def _write(self, ready: int, stamp: str) -> None:
        chunks = self._chunks(ready, stamp)
        if chunks:
            self.reply.write(chunks, self._dialect.content_type)

    def _die(self, cut: Cut, stamp: str) -> None:
        """End as the fault says; before the first token Ollama can still say 500."""
        reply, dialect = self.reply, self._dialect
        if cut.variant in ("line", "socket"):
            self._break_off(cut, stamp)
        elif not reply.begun:
            send_error(reply, ApiError(500, RUNNER_DIED), openai=self._openai)
        else:
            if cut.variant == "runner":
                reply.write(dialect.died())
            reply.finish()

    def _break_off(self, cut: Cut, stamp: str) -> None:
        """Send half of the next line, then close or reset."""
        following = self._dialect.tokens(
            self._answer, self._sent, self._sent + 1, stamp
        )
        if self.reply.begun:
            self.reply.write(following[: len(following) // 2])
        if cut.variant == "socket":
            self.reply.reset()
        else:
            self.reply.close()
