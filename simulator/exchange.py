"""An inference under way: what the engine has made goes to the client's reply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from simulator.body import ApiError
from simulator.dialect import JSON, MID_STREAM_ERROR, OPENAI_JSON, Dialect, dumps
from simulator.faults import RUNNER_DIED, Cut
from simulator.http import Reply
from simulator.runner import Job, Phase
from simulator.text import Answer


def send_error(reply: Reply, error: ApiError, *, openai: bool) -> None:
    """Answer with an error in the dialect of the route."""
    if not openai:
        reply.send(error.status, dumps({"error": error.text}), JSON)
        return
    body = {"message": error.text, "type": error.kind, "param": None, "code": None}
    early = error.kind == "invalid_request_error"  # Ollama's two writers differ
    content_type, end = (JSON, b"") if early else (OPENAI_JSON, b"\n")
    reply.send(error.status, dumps({"error": body}) + end, content_type)


@dataclass(slots=True, eq=False)
class Exchange(ABC):
    """A job and the reply that it feeds; `cut`: the fault that ends it early."""

    job: Job
    reply: Reply
    openai: bool = field(kw_only=True)
    cut: Cut | None = field(default=None, kw_only=True)

    def poll(self, stamp: str) -> bool:
        """Send what is ready; tells whether the exchange is over."""
        if self.job.phase is Phase.FAILED:
            self._refuse(self.job.error)
            return True
        return self._feed(stamp)

    @abstractmethod
    def _feed(self, stamp: str) -> bool:
        """Send what is ready of a job that goes on or is done."""

    def _refuse(self, text: str) -> None:
        send_error(self.reply, ApiError(500, text), openai=self.openai)


@dataclass(slots=True, eq=False)
class Whole(Exchange):
    """A reply in one piece, sent when the job is done."""

    render: Callable[[str], tuple[bytes, str]]

    def _feed(self, stamp: str) -> bool:
        job, cut = self.job, self.cut
        if cut is not None and job.answering and job.ready_tokens >= cut.tokens:
            self._die(cut)
            return True
        if job.phase is not Phase.DONE:
            return False
        body, content_type = self.render(stamp)
        self.reply.send(200, body, content_type)
        return True

    def _die(self, cut: Cut) -> None:
        if cut.variant == "socket":
            self.reply.reset()
        elif cut.variant == "line":
            self.reply.close()
        else:
            self._refuse(MID_STREAM_ERROR if cut.tokens else RUNNER_DIED)


@dataclass(slots=True, eq=False)
class Stream(Exchange):
    """A reply token by token; not a byte, not even a head, before the first."""

    answer: Answer
    dialect: Dialect
    _sent: int = field(default=0, init=False)

    def _feed(self, stamp: str) -> bool:
        job = self.job
        if self.reply.blocked or not job.answering:
            return False
        over = job.phase is Phase.DONE
        answer, cut = self.answer, self.cut
        ready = answer.pieces if over else min(job.ready_tokens, answer.shown)
        if cut is not None and job.ready_tokens >= cut.tokens:
            self._write(min(ready, cut.tokens), stamp)
            self._die(cut, stamp)
            return True
        chunks = self._chunks(ready, stamp)
        if over:
            chunks += self.dialect.end(job, self.answer, stamp)
        if chunks:
            self.reply.write(chunks, self.dialect.content_type)
        if over:
            self.reply.finish()
        return over

    def _chunks(self, ready: int, stamp: str) -> bytes:
        first, self._sent = self._sent, max(self._sent, ready)
        if first >= ready:
            return b""
        return self.dialect.tokens(self.answer, first, ready, stamp)

    def _write(self, ready: int, stamp: str) -> None:
        chunks = self._chunks(ready, stamp)
        if chunks:
            self.reply.write(chunks, self.dialect.content_type)

    def _die(self, cut: Cut, stamp: str) -> None:
        """End as the fault says; before the first token Ollama can still say 500."""
        reply, dialect = self.reply, self.dialect
        if cut.variant in ("line", "socket"):
            self._break_off(cut, stamp)
        elif not reply.begun:
            self._refuse(RUNNER_DIED)
        else:
            if cut.variant == "runner":
                reply.write(dialect.died())
            reply.finish()

    def _break_off(self, cut: Cut, stamp: str) -> None:
        """Send half of the next line, then close or reset."""
        following = self.dialect.tokens(self.answer, self._sent, self._sent + 1, stamp)
        if self.reply.begun:
            self.reply.write(following[: len(following) // 2])
        if cut.variant == "socket":
            self.reply.reset()
        else:
            self.reply.close()
