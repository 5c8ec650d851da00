"""The inference routes as a bare WSGI callable, mounted in front of Flask.

Flask costs half of a core at a few thousand requests a second; what people
touch every second does without it. Everything else goes to `fallback`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import gevent
from structlog.contextvars import bind_contextvars, clear_contextvars

from router.dispatch.attention import (
    Attention,
    ClientWatch,
    CooperativeSocket,
    StoppedError,
)
from router.dispatch.backend import Message
from router.dispatch.failover import Call, Failover, Presented
from router.dispatch.pipeline import Wish
from router.dispatch.reply import Pump
from router.dispatch.routes import ROUTES, Ask, Route, error_body, error_frame, read_ask
from router.dispatch.stream import Timings, read_timings
from router.dispatch.trail import Trail, Trails
from router.errors import (
    AttemptError,
    BadRequestError,
    BodyTimeoutError,
    BodyTooLargeError,
    RefusedError,
    RequestError,
)
from router.logs import get_logger
from router.metrics import Metrics
from router.model import Outcome, Priority, canonical

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = get_logger(__name__)

_FORWARDED = {
    "HTTP_ACCEPT": "Accept",
    "CONTENT_TYPE": "Content-Type",
    "HTTP_USER_AGENT": "User-Agent",
}
# Framing and dates are the router's own; the rest of the node's head goes on.
_NOT_PASSED = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server"}
    | {"te", "trailer", "transfer-encoding", "upgrade", "proxy-authenticate"}
)
_SAFE_ID = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What a client may send, how slowly, and how long anything may stand still."""

    max_body_bytes: int
    body_seconds: float
    queue_seconds: float
    stall_seconds: float


@dataclass(slots=True)
class Visit:
    """One request at the door, until its last byte."""

    route: Route
    request_id: str
    arrived: float
    attention: Attention = field(default_factory=Attention)
    model: str = "unknown"
    node: str = ""
    status: int = 0
    outcome: str = Outcome.REFUSED.value
    attempts: int = 0


class Visits:
    """The requests under way, so that a shutdown can end them with a frame."""

    def __init__(self) -> None:
        self._attentions: dict[int, Attention] = {}

    def __len__(self) -> int:
        return len(self._attentions)

    def enter(self, visit: Visit) -> None:
        self._attentions[id(visit)] = visit.attention

    def leave(self, visit: Visit) -> None:
        self._attentions.pop(id(visit), None)

    def stop_all(self, outcome: Outcome) -> None:
        for attention in list(self._attentions.values()):
            attention.stop(outcome)


class Inference:
    """Serves `router.dispatch.routes.ROUTES`; see the module."""

    def __init__(
        self,
        failover: Failover,
        metrics: Metrics,
        trails: Trails,
        limits: DoorLimits,
        *,
        fallback: WSGIApplication,
    ) -> None:
        self._failover = failover
        self._metrics = metrics
        self._trails = trails
        self.limits = limits
        self._fallback = fallback
        self.visits = Visits()

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        route = ROUTES.get(environ["PATH_INFO"])
        if route is None or environ["REQUEST_METHOD"] != "POST":
            return self._fallback(environ, start_response)
        visit = Visit(route, request_id(environ), time.monotonic())
        clear_contextvars()
        bind_contextvars(request_id=visit.request_id)
        self.visits.enter(visit)
        reply = _Answering(self, visit, environ, start_response)
        return reply.begin()

    # What an answer does with the router's parts.

    def read(self, visit: Visit, environ: WSGIEnvironment) -> tuple[Ask, bytes]:
        """Read the body within its limits. Raises RequestError."""
        body = _read_body(environ, self.limits)
        ask = read_ask(visit.route, body)
        return ask, body

    def present(self, visit: Visit, call: Call) -> Presented:
        trail = Trail(visit.request_id, visit.route.path, call.wish.model, time.time())
        self._trails.add(trail)
        try:
            return self._failover.present(call, visit.attention, trail)
        finally:
            visit.attempts = trail.attempts
            if trail.steps and (picked := trail.steps[-1].decision.picked):
                visit.node = picked.name
                visit.model = call.wish.model

    def call(
        self, ask: Ask, body: bytes, visit: Visit, headers: dict[str, str]
    ) -> Call:
        return Call(
            Wish(canonical(ask.model)),
            Message("POST", visit.route.path, headers, body),
            Priority.INTERACTIVE,
            visit.arrived + self.limits.queue_seconds,
        )

    def pump(
        self,
        presented: Presented,
        visit: Visit,
        client: CooperativeSocket,
        chunked: bool,
    ) -> Outcome:
        pump = Pump(
            presented.reply,
            client,
            visit.attention,
            chunked=chunked,
            clock=time.monotonic,
        )
        return pump.run(self.limits.stall_seconds)

    def first_line(self, visit: Visit) -> None:
        seconds = time.monotonic() - visit.arrived
        self._metrics.first_token_seconds.labels(visit.node, visit.model).observe(
            seconds
        )

    def end(self, presented: Presented, outcome: Outcome, timings: Timings) -> None:
        """Give slot and connection back, and count what the reply tells."""
        lease = presented.lease
        self._failover.release(presented.reply)
        lease.done(outcome, timings)
        tokens = self._metrics.tokens
        if timings.prompt_tokens:
            tokens.labels(lease.node, lease.model, "prompt").inc(timings.prompt_tokens)
        if timings.generated_tokens:
            tokens.labels(lease.node, lease.model, "generated").inc(
                timings.generated_tokens
            )

    def broke_off(self) -> None:
        self._metrics.failovers.labels("mid_stream", "error_frame").inc()

    def rejected(self, reason: str) -> None:
        self._metrics.rejections.labels(reason).inc()

    def leave(self, visit: Visit) -> None:
        """Count and log the request; the last thing that is done for it."""
        self.visits.leave(visit)
        seconds = time.monotonic() - visit.arrived
        trail = self._trails.get(visit.request_id)
        if trail:
            trail.ended = visit.outcome
        self._metrics.requests.labels(
            visit.route.path, visit.model, visit.node, visit.outcome, visit.status
        ).inc()
        self._metrics.request_seconds.labels(visit.route.path).observe(seconds)
        log.info(
            "request",
            path=visit.route.path,
            model=visit.model,
            node=visit.node,
            status=visit.status,
            outcome=visit.outcome,
            attempts=visit.attempts,
            seconds=round(seconds, 4),
        )


class _Answering:
    """One request's answer: decided in `begin`, passed on while it is iterated."""

    def __init__(
        self,
        inference: Inference,
        visit: Visit,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self._inference = inference
        self._visit = visit
        self._environ = environ
        self._start_response = start_response
        self._client: CooperativeSocket = environ["gunicorn.socket"]
        self._presented: Presented | None = None
        self._watch: ClientWatch | None = None
        self._closed = False

    def begin(self) -> Iterable[bytes]:
        answer: Iterable[bytes] | None = None
        try:
            answer = self._begin()
            return answer
        finally:
            if answer is None:
                self._finish()

    def _begin(self) -> Iterable[bytes]:
        try:
            presented = self._present()
        except StoppedError as error:
            return self._stopped(error.outcome)
        except RefusedError as error:
            return self._refuse_as_node(error)
        except AttemptError as error:
            return self._refuse(502, "node_failed", str(error))
        except RequestError as error:
            self._inference.rejected(error.code)
            return self._refuse(
                error.status, error.code, error.message, error.retry_after_seconds
            )
        self._presented = presented
        if presented.reply.gate:
            return self._stream(presented)
        return self._whole(presented)

    def _present(self) -> Presented:
        inference, visit = self._inference, self._visit
        ask, body = inference.read(visit, self._environ)
        self._watch = ClientWatch(self._client, visit.attention)
        headers = {
            name: self._environ[key]
            for key, name in _FORWARDED.items()
            if self._environ.get(key)
        }
        headers["X-Request-Id"] = visit.request_id
        return inference.present(visit, inference.call(ask, body, visit, headers))

    def _whole(self, presented: Presented) -> Iterable[bytes]:
        head = presented.reply.head
        assert head is not None  # noqa: S101 - a presented reply has one
        headers = _passed_on(head.headers)
        headers.append(("Content-Length", str(len(presented.body))))
        self._visit.outcome = Outcome.END.value
        self._head(head.status, headers)
        self._inference.end(presented, Outcome.END, read_timings(presented.body))
        self._finish()
        return [presented.body]

    def _stream(self, presented: Presented) -> Iterable[bytes]:
        head = presented.reply.head
        assert head is not None  # noqa: S101 - a presented reply has one
        self._head(head.status, _passed_on(head.headers))
        self._inference.first_line(self._visit)
        return _Stream(self)

    def pieces(self) -> Iterator[bytes]:
        """Yield nothing first, for the head to go out; then pump to the end."""
        yield b""
        presented, visit = self._presented, self._visit
        assert presented is not None  # noqa: S101 - only streams get here
        chunked = self._environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        presented.reply.gather_again(presented.body)
        outcome = self._inference.pump(presented, visit, self._client, chunked)
        visit.outcome = outcome.value
        if outcome in {Outcome.END, Outcome.CLIENT_GONE}:
            return
        self._inference.broke_off()
        text = _BROKEN.get(outcome, "the stream from node {node} broke off")
        message = text.format(node=visit.node)
        failure = presented.reply.gate and presented.reply.gate.failure
        if failure:
            message = f"{message}: {failure}"
        yield error_frame(visit.route.dialect, message, outcome.value)

    def close(self) -> None:
        """Settle what is open; called by gunicorn whatever has happened."""
        presented, self._presented = self._presented, None
        if presented and presented.reply.gate:
            outcome = Outcome(self._visit.outcome)
            if outcome is Outcome.REFUSED:  # it was never iterated: nobody to read
                outcome = Outcome.CLIENT_GONE
                self._visit.outcome = outcome.value
            timings = Timings()
            if outcome is Outcome.END:
                timings = presented.reply.gate.timings()
            self._inference.end(presented, outcome, timings)
        self._finish()

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watch:
            self._watch.close()
        self._inference.leave(self._visit)

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        visit = self._visit
        visit.status = status
        headers.append(("X-Request-Id", visit.request_id))
        if visit.node:
            headers.append(("X-InferOps-Node", visit.node))
            headers.append(("X-InferOps-Attempts", str(visit.attempts)))
        self._start_response(f"{status} {_phrase(status)}", headers)

    def _refuse(
        self, status: int, code: str, message: str, retry_after: float | None = None
    ) -> Iterable[bytes]:
        body = error_body(self._visit.route.dialect, status, message, code)
        extra = [("Retry-After", f"{retry_after:.0f}")] if retry_after else []
        return self._answer(status, body, extra)

    def _refuse_as_node(self, error: RefusedError) -> Iterable[bytes]:
        """Give the node's own words, where it had any: no other node is left."""
        if not error.body:
            return self._refuse(error.status, "node_failed", str(error))
        return self._answer(error.status, error.body, [])

    def _stopped(self, outcome: Outcome) -> Iterable[bytes]:
        self._visit.outcome = outcome.value
        if outcome is Outcome.CLIENT_GONE:  # nobody reads this; 499 as Ollama logs it
            return self._answer(499, b"", [])
        return self._refuse(503, outcome.value, "the router is shutting down", 5)

    def _answer(
        self, status: int, body: bytes, headers: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        headers.append(("Content-Type", "application/json"))
        headers.append(("Content-Length", str(len(body))))
        self._head(status, headers)
        self._finish()
        return [body]


class _Stream:
    """An iterable with the `close` that gunicorn calls at the end."""

    def __init__(self, answering: _Answering) -> None:
        self._answering = answering

    def __iter__(self) -> Iterator[bytes]:
        return self._answering.pieces()

    def close(self) -> None:
        self._answering.close()


_BROKEN = {
    Outcome.SHUTDOWN: "the router is shutting down",
    Outcome.STALLED: "node {node} sent nothing for too long",
    Outcome.ERROR_LINE: "node {node} failed in mid-stream",
    Outcome.EOF: "node {node} broke off in mid-stream",
}


def request_id(environ: Mapping[str, Any]) -> str:
    """Return the client's own id where it is harmless, otherwise a new one."""
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    if 0 < len(given) <= 64 and _SAFE_ID.issuperset(given):
        return given
    return uuid.uuid4().hex


def _read_body(environ: WSGIEnvironment, limits: DoorLimits) -> bytes:
    """Read a body whole. Raises a RequestError: too large, too slow, cut short."""
    declared = int(environ.get("CONTENT_LENGTH") or 0)
    too_large = BodyTooLargeError(f"the body is over {limits.max_body_bytes} bytes")
    if declared > limits.max_body_bytes:
        raise too_large
    try:
        with gevent.Timeout(limits.body_seconds):
            body: bytes = environ["wsgi.input"].read(limits.max_body_bytes + 1)
    except gevent.Timeout as error:
        raise BodyTimeoutError(
            f"the body took over {limits.body_seconds:g} s to arrive"
        ) from error
    if len(body) > limits.max_body_bytes:
        raise too_large
    if len(body) < declared:
        raise BadRequestError("the body ended before its Content-Length")
    return body


def _passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.title(), value) for name, value in headers if name not in _NOT_PASSED]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Unknown"
