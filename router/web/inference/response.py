"""One request's answer: decided first, then passed on while it is iterated."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from router.clients.http_json import Answer
from router.errors import (
    AttemptError,
    CannotContinueError,
    NotFoundError,
    RefusedError,
    RequestError,
    RouteMissingError,
)
from router.failover.attempts import FirstResponse
from router.failover.continuation.continuity import Continuity
from router.failover.continuation.request import refusal
from router.failover.light import LightAnswer
from router.failover.proxied import ProxiedRequest
from router.failover.repetition import lost_end
from router.model import Outcome, Timings
from router.relay.fields import Need
from router.relay.framing import read_timings
from router.relay.protocols import WORDLESS, error_body, error_frame
from router.relay.upstream import Pump
from router.runtime.cancellation import CancelledError, ClientWatch, CooperativeSocket
from router.scheduling.trace import DecisionTrace
from router.server.response import BufferedChunk
from router.web.inference.accounts import close_request
from router.web.inference.admission import proxied, read_request
from router.web.inference.context import InferenceContext
from router.web.inference.encoding import ACCEPTED
from router.web.inference.light import answer_light
from router.web.inference.limited import estimated_tokens
from router.web.inference.request import ClientRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Fits into any client's empty socket buffer: sending it cannot wait.
_WITH_THE_HEAD_BYTES = 16_384
# All that goes on of a node's head: what says how its body is to be read. The router
# is the server that a client speaks to, so that cookies, origins that may read an
# answer, other addresses and challenges are its own to give, or nobody's.
_PASSED_ON = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language"}
    | {"content-type", "retry-after"}
)


class InferenceResponse:
    """One request's answer: decided in `begin`, passed on while it is iterated."""

    def __init__(
        self,
        context: InferenceContext,
        request: ClientRequest,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self._context = context
        self._request = request
        self._environ = environ
        self._start_response = start_response
        self._client: CooperativeSocket = environ["gunicorn.socket"]
        self._trace: DecisionTrace | None = None
        self._first: FirstResponse | None = None
        self._call: ProxiedRequest | None = None
        self._continuity: Continuity | None = None
        self._watch: ClientWatch | None = None
        self._streams = False
        self._closed = False

    def begin(self) -> Iterable[bytes]:
        """Have the request answered up to its first line, or refuse it."""
        try:
            first = self._first_response()
        except CancelledError as error:
            return self._stopped(error.outcome)
        except RefusedError as error:
            return self._refuse_as_node(error.bare())
        except AttemptError as error:
            return self._refuse(502, "node_failed", str(error.bare()))
        except RequestError as error:
            self._rejected(error.bare().code)
            return self._refuse(
                error.status, error.code, error.message, error.retry_after_seconds
            )
        else:
            if isinstance(first, LightAnswer):
                return self._light(first.answer)
            self._first = first
            return (self._stream if first.reply.gate else self._whole)(first)
        finally:
            if not self._streams:
                self._finish()

    def _first_response(self) -> FirstResponse | LightAnswer:
        context, request = self._context, self._request
        ask, body = read_request(context, request, self._environ)
        self._watch = ClientWatch(self._client, request.cancellation)
        if ask.need is not Need.SLOT and (
            light := answer_light(context, request, ask, body)
        ):
            return light
        self._call = call = proxied(context, request, self._environ, ask, body)
        self._trace = trace = DecisionTrace(
            request.request_id,
            request.route.path,
            call.routing.model,
            time.time(),
            owner=request.principal.owner,
            spans=request.spans,
        )
        context.traces.add(trace)
        try:
            return context.failover.first_response(call, request.cancellation, trace)
        except (NotFoundError, RefusedError) as error:
            if not self._found_since(error, call, trace):
                raise
            return context.failover.first_response(call, request.cancellation, trace)
        finally:
            request.attempts = trace.attempts
            if trace.steps and (picked := trace.steps[-1].decision.picked):
                request.node = picked.name
                request.model = call.routing.model

    def _found_since(
        self,
        error: NotFoundError | RefusedError,
        call: ProxiedRequest,
        trace: DecisionTrace,
    ) -> bool:
        """Whether a node that was not asked has the model by now."""
        if error.status != 404 or isinstance(error, RouteMissingError):
            return False
        picks = (step.decision.picked for step in trace.steps)
        asked = {pick.name for pick in picks if pick}
        return bool(self._context.find(call.routing.model) - asked)

    def _whole(self, first: FirstResponse) -> Iterable[bytes]:
        head = first.reply.head
        assert head is not None  # noqa: S101 - a presented reply has one
        self._request.outcome = Outcome.END.value
        length = ("Content-Length", str(len(first.body)))
        self._head(head.status, [*_passed_on(head.headers), length])
        # A refusal took no time and proves nothing: the node must not look quick.
        ended = Outcome.REFUSED if first.refused else Outcome.END
        timings = read_timings(first.body)
        self._count_tokens(first, timings)
        self._end(first, ended, timings)
        # The node is done with it, but the client may take it slowly.
        self._environ["wsgi.input"].keep(len(first.body))
        self._finish()
        return [first.body]

    def _stream(self, first: FirstResponse) -> Iterable[bytes]:
        head = first.reply.head
        assert head is not None  # noqa: S101 - a presented reply has one
        self._continuity = self._continued_by(first)
        first.reply.movable = self._continuity is not None
        self._head(head.status, [*_passed_on(head.headers)])
        # Counted at the lease's end.
        first.lease.first_token_seconds = time.monotonic() - self._request.arrived
        self._streams = True
        return _Stream(self)

    def _continued_by(self, first: FirstResponse) -> Continuity | None:
        """Keep what is needed to go on elsewhere; None where that would be wrong."""
        context, call, trace = self._context, self._call, self._trace
        assert call is not None  # noqa: S101 - presented for it
        assert trace is not None  # noqa: S101 - likewise
        if refusal(call.message.path, call.message.body):
            return None
        continuity = Continuity(
            context.failover,
            call,
            self._request.cancellation,
            trace,
            context.metrics,
            wait_seconds=context.limits.queue_seconds,
            clock=time.monotonic,
        )
        continuity.begin(first)
        return continuity

    def pieces(self) -> Iterator[bytes]:
        """Yield the first lines, for the head to go with them; then pump to the end."""
        yield self._first_lines()
        outcome = self._pump()
        while outcome in _NODE_FAILED:
            yield self._last_lines()  # at once: the next segment writes past gunicorn
            tail = self._go_on(outcome)
            if tail is not None:
                yield tail
                return
            outcome = self._pump()
        self._request.outcome = outcome.value
        continuity = self._continuity
        if outcome is Outcome.END and continuity and continuity.unfinished:
            yield self._last_lines()  # the rest may take a moment
            yield BufferedChunk(continuity.closing())
            return
        yield BufferedChunk(self._last_lines())
        if outcome not in {Outcome.END, Outcome.CLIENT_GONE}:
            self._broke_off("error_frame")
            yield self._frame(outcome, _BROKEN.get(outcome, "the stream was ended"))

    def _first_lines(self) -> bytes:
        """Take what the head goes out with: nothing where a client may be too slow."""
        first = self._first
        assert first is not None  # noqa: S101 - a stream was presented
        if len(first.body) > _WITH_THE_HEAD_BYTES:
            return b""
        self._first = first._replace(body=b"")
        return BufferedChunk(first.body) if first.reply.over else first.body

    def _last_lines(self) -> bytes:
        """Take what came with the end of a segment; the pump has not sent it."""
        assert self._first is not None  # noqa: S101 - it has just been pumped
        reply = self._first.reply
        lines, reply.last = reply.last, b""
        return lines

    def _pump(self) -> Outcome:
        first = self._first
        assert first is not None  # noqa: S101 - only streams get here
        first.reply.gather_again(first.body)
        lease, cancellation = first.lease, self._request.cancellation
        lease.decoding_since = time.monotonic()
        pump = Pump(
            first.reply,
            self._client,
            cancellation,
            chunked=self._environ["SERVER_PROTOCOL"] == "HTTP/1.1",
            clock=time.monotonic,
        )
        # A stream that can be continued says each token as it is made.
        plain = self._continuity is not None
        outcome = pump.run(
            self._context.failover.liveness.stream(lease, cancellation, plain=plain)
        )
        gate = first.reply.gate
        if outcome in _NODE_FAILED and gate and not gate.failure and gate.finished:
            return Outcome.END  # only the end of the framing was lost
        if outcome is Outcome.EOF and gate and first.reply.broken is None:
            transcript = (
                self._continuity.transcript.text() if self._continuity else None
            )
            lines = gate.before + gate.last
            if end := lost_end(self._request.route.path, lines, transcript):
                first.reply.last += gate.feed(end)
                return Outcome.END
        return outcome

    def _go_on(self, outcome: Outcome) -> bytes | None:
        """Take the next segment, or return what ends the stream."""
        first, self._first = self._first, None
        assert first is not None  # noqa: S101 - it has just been pumped
        self._request.outcome = outcome.value
        # The others on the node hear what its broken stream says of them.
        self._context.failover.broke_off(
            first.lease,
            first.reply,
            wordless=self._request.route.path in WORDLESS,
        )
        self._end(first, outcome, Timings())
        message = _BROKEN[outcome].format(node=first.lease.node)
        failure = first.reply.gate and first.reply.gate.failure
        if failure:
            message = f"{message}: {failure}"
        try:
            following = self._following(first.lease.node, outcome)
        except CancelledError as error:
            self._request.outcome = error.outcome.value
            text = _BROKEN.get(error.outcome, message)
            return self._frame(error.outcome, text)
        except CannotContinueError as error:
            self._broke_off("refused_to_continue")
            return self._frame(outcome, f"{message}; not continued: {error}")
        except (AttemptError, RequestError) as error:
            self._broke_off("error_frame")
            return self._frame(outcome, f"{message}; not continued: {error.bare()}")
        if isinstance(following, bytes):
            self._request.outcome = Outcome.END.value
            return following
        self._first = following
        return None

    def _following(self, node: str, outcome: Outcome) -> FirstResponse | bytes:
        if self._continuity is None:
            assert self._call is not None  # noqa: S101 - a stream is presented for it
            message = self._call.message
            raise CannotContinueError(f"{refusal(message.path, message.body)}")
        return self._continuity.go_on(node, outcome)

    def _frame(self, outcome: Outcome, message: str) -> bytes:
        if outcome is Outcome.CLIENT_GONE:
            return b""
        return error_frame(self._request.route.dialect, message, outcome.value)

    def close(self) -> None:
        """Settle what is open; called by gunicorn whatever has happened."""
        first, self._first = self._first, None
        if first and first.reply.gate:
            outcome = Outcome(self._request.outcome)
            if outcome is Outcome.REFUSED:  # it was never iterated: nobody to read
                outcome = Outcome.CLIENT_GONE
                self._request.outcome = outcome.value
            timings = Timings()
            if outcome is Outcome.END:
                timings = first.reply.gate.timings()
            self._count_tokens(first, timings)
            self._end(first, outcome, timings)
        self._finish()

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watch:
            self._watch.close()
        close_request(self._context, self._request, self._trace)

    def _end(self, first: FirstResponse, outcome: Outcome, timings: Timings) -> None:
        """Give slot and connection back; the ledger's listeners count the reply."""
        self._context.failover.release(first.reply)
        first.lease.done(outcome, timings)

    def _broke_off(self, outcome: str) -> None:
        self._context.metrics.failovers.labels("mid_stream", outcome).inc()

    def _rejected(self, reason: str) -> None:
        self._context.metrics.rejections.labels(reason).inc()

    def _count_tokens(self, first: FirstResponse, timings: Timings) -> None:
        """Note what is to count against limits; a stream may not tell its tokens."""
        request = self._request
        if request.ticket is None:
            return
        request.tokens = timings.prompt_tokens + timings.generated_tokens
        if not request.tokens and first.reply.gate and self._call:
            asked, seen = len(self._call.message.body), first.reply.bytes_seen
            request.tokens = estimated_tokens(request.route, asked, seen)

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        request = self._request
        request.status = status
        headers.append(("X-Request-Id", request.request_id))
        headers.append(("X-InferOps-Attempts", str(request.attempts)))
        if request.limit_headers:
            headers += request.limit_headers
        if request.node:
            headers.append(("X-InferOps-Node", request.node))
        if request.spans is not None:
            headers.append(("traceresponse", request.spans.request.header))
        self._start_response(_status_line(status), headers)

    def _refuse(
        self, status: int, code: str, message: str, retry_after: float | None = None
    ) -> Iterable[bytes]:
        body = error_body(self._request.route.dialect, status, message, code)
        extra = [("Retry-After", f"{retry_after:.0f}")] if retry_after else []
        if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            extra.append(("Accept-Encoding", ACCEPTED))
        return self._answer(status, body, extra)

    def _light(self, answer: Answer) -> Iterable[bytes]:
        if not answer.content_type:
            text = answer.body.decode(errors="replace")
            return self._refuse(answer.status, "node_failed", text)
        kind = [("Content-Type", answer.content_type)]
        return self._answer(answer.status, answer.body, kind)

    def _refuse_as_node(self, error: RefusedError) -> Iterable[bytes]:
        """Give the node's own answer, where it had any: no other node is left."""
        if not error.body and error.status >= 400:
            return self._refuse(error.status, "node_failed", str(error))
        if error.status < 500 and not isinstance(error, RouteMissingError):
            self._request.outcome = Outcome.END.value
        headers = [*_passed_on(error.headers)]
        return self._answer(error.status, error.body, headers)

    def _stopped(self, outcome: Outcome) -> Iterable[bytes]:
        self._request.outcome = outcome.value
        if outcome is Outcome.CLIENT_GONE:  # nobody reads this; 499 as Ollama logs it
            return self._answer(499, b"", [])
        if outcome is Outcome.DEADLINE:
            self._rejected(outcome.value)
            return self._refuse(504, outcome.value, _BROKEN[outcome])
        return self._refuse(503, outcome.value, "the router is shutting down", 5)

    def _answer(
        self, status: int, body: bytes, headers: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        if not any(name == "Content-Type" for name, _ in headers):
            headers.append(("Content-Type", self._request.route.dialect.json_type))
        headers.append(("Content-Length", str(len(body))))
        self._head(status, headers)
        self._finish()
        return [body]


class _Stream:
    """An iterable with the `close` that gunicorn calls at the end."""

    def __init__(self, answering: InferenceResponse) -> None:
        self._answering = answering

    def __iter__(self) -> Iterator[bytes]:
        return self._answering.pieces()

    def close(self) -> None:
        self._answering.close()


# Outcomes after which another node may go on.
_NODE_FAILED = frozenset(
    {Outcome.EOF, Outcome.ERROR_LINE, Outcome.STALLED}
    | {Outcome.REVOKED, Outcome.EVICTED}
)
_BROKEN = {
    Outcome.DEADLINE: "the request's time limit has passed",
    Outcome.REVOKED: "node {node} was taken for another request",
    Outcome.EVICTED: "node {node} is being emptied",
    Outcome.SHUTDOWN: "the router is shutting down",
    Outcome.STALLED: "node {node} sent nothing for too long",
    Outcome.ERROR_LINE: "node {node} failed in mid-stream",
    Outcome.EOF: "node {node} broke off in mid-stream",
}


@lru_cache(maxsize=256)
def _passed_on(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return what goes on of a node's head, which is the same for many replies."""
    return tuple((k.title(), value) for k, value in headers if k in _PASSED_ON)


@lru_cache(maxsize=256)
def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = "Client Closed Request" if status == 499 else "Unknown"
        return f"{status} {phrase}"
