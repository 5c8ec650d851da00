"""The inference routes as a bare WSGI callable, mounted in front of Flask.

Flask costs half of a core at a few thousand requests a second; what people
touch every second does without it. Everything else goes to `fallback`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from router.access.quota import Quotas
from router.audit.trail import AuditTrail
from router.cancellation import CooperativeSocket
from router.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    RouteMissingError,
)
from router.failover.attempts import Failover, FirstResponse, ProxiedRequest
from router.failover.continuation.continuity import Continuity
from router.failover.continuation.request import refusal
from router.failover.findings import Findings
from router.failover.light import LightAnswer, LightCalls, LightRequest
from router.logs.events import RequestLog
from router.metrics import Metrics
from router.model import Outcome, Priority, Timings, canonical, is_model_name
from router.relay.fields import Ask, Need
from router.relay.pool import UpstreamRequest
from router.relay.protocols import ROUTES, WORDLESS, Route
from router.relay.upstream import Pump
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.trace import DecisionTrace, DecisionTraces
from router.scheduling.traits import session_of, traits_of
from router.tracing.export import Tracing
from router.tracing.spans import Attribute, RequestSpans
from router.usage.ledger import UsageLedger
from router.web.authentication import principal_of
from router.web.caller import sender
from router.web.inference.body import BodyReader
from router.web.inference.headers import read_terms
from router.web.inference.limited import capped, limit_headers
from router.web.inference.paths import climbs, passed_on, redirect, tidy
from router.web.inference.request import (
    ClientRequest,
    ClientRequests,
    IngressLimits,
    request_id,
)
from router.web.inference.response import InferenceResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_MOST_SHOWN = 80  # letters of a name that is none
# What a server's span does not call an error: the client's own doing.
_NO_FAULT = frozenset({Outcome.END, Outcome.CLIENT_GONE, Outcome.REFUSED})


class Inference:
    """Serves `router.relay.protocols.ROUTES` as a WSGI callable."""

    def __init__(
        self,
        failover: Failover,
        metrics: Metrics,
        trails: DecisionTraces,
        limits: IngressLimits,
        *,
        light: LightCalls,
        find: Callable[[str], frozenset[str]],
        log: RequestLog,
        usage: UsageLedger,
        audit: AuditTrail,
        quotas: Quotas,
        tracing: Tracing | None = None,
        own: frozenset[str],
        fallback: WSGIApplication,
    ) -> None:
        self._failover = failover
        self._metrics = metrics
        self._trails = trails
        self.limits = limits
        self._light = light
        self._find = find
        self._log = log
        self._usage = usage
        self._audit = audit
        self._quotas = quotas
        self._tracing = tracing
        self._own = own
        self._fallback = fallback
        self.visits = ClientRequests()
        self._bodies = BodyReader()

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        route = ROUTES.get(path)
        if route is None:
            if leads_to := climbs(path):
                return redirect(leads_to, environ, start_response)
            environ["PATH_INFO"] = path = tidy(path)
            route = ROUTES.get(path) or self._passed_on(path)
        if route is None or environ["REQUEST_METHOD"] != "POST":
            return self._fallback(environ, start_response)
        visit = ClientRequest(
            route,
            request_id(environ),
            time.monotonic(),
            principal_of(environ),
            sender=sender(environ),
        )
        if self._tracing is not None:
            visit.spans = self._tracing.begin(
                route.label,
                visit.arrived,
                environ.get("HTTP_TRACEPARENT", ""),
                environ.get("HTTP_TRACESTATE", ""),
            )
        self.visits.enter(visit)
        return InferenceResponse(self, visit, environ, start_response).begin()

    def _passed_on(self, path: str) -> Route | None:
        """Return a route that only nodes can know, unless the router has its own."""
        start = "/".join(path.split("/", 3)[:3])
        return None if start in self._own else passed_on(path)

    # What an answer does with the router's parts.

    def read(self, visit: ClientRequest, environ: WSGIEnvironment) -> tuple[Ask, bytes]:
        """Read the body within its limits. Raises RequestError, StoppedError."""
        visit.attention.check()
        try:
            read = self._bodies.read(environ, visit.route, self.limits)
        except BadRequestError:
            if not visit.route.unknown:
                raise
            raise NotFoundError(f"POST {visit.route.path}: no such path") from None
        finally:
            visit.attention.check()  # stopped meanwhile: that is what is told
        visit.keep_to(read_terms(environ, self.limits.request_seconds))
        ask, body = read
        if not is_model_name(ask.model):
            raise NotFoundError(f"model {ask.model[:_MOST_SHOWN]!r} not found")
        if not visit.principal.may_use(ask.model):
            raise ForbiddenError(f"this API key is not for model {ask.model!r}")
        return ask, self._let_in(visit, body)

    def _let_in(self, visit: ClientRequest, body: bytes) -> bytes:
        """Count the request against its limits. Raises RateLimitedError.

        Returns the body, which asks for no more tokens than it may have.
        """
        who = visit.principal
        try:
            visit.ticket = ticket = self._quotas.let_in(who)
        except RateLimitedError:
            visit.limit_headers = self._limit_headers(visit)
            raise
        if ticket is None:
            return body
        visit.limit_headers = self._limit_headers(visit)
        most = ticket.max_output_tokens
        return body if most is None else capped(visit.route, body, most)

    def _limit_headers(self, visit: ClientRequest) -> list[tuple[str, str]]:
        usage = self._quotas.usage(visit.principal)
        return limit_headers(visit.route.dialect, usage, time.time())

    def light(self, ask: Ask, body: bytes, visit: ClientRequest) -> LightAnswer | None:
        """Answer what needs no slot; None where a slot is needed after all."""
        if ask.need is Need.SLOT:
            return None
        model = canonical(ask.model)
        deadline = visit.arrived + min(self.limits.queue_seconds, visit.terms.seconds)
        request = LightRequest(ask.need, model, visit.route.path, body, deadline)
        try:
            found = self._light.answer(request, visit.attention)
        except NotFoundError:
            if not self._find(model):
                raise
            found = self._light.answer(request, visit.attention)
        if found:
            visit.attempts, visit.node, visit.model = found.attempts, found.node, model
            if found.answer.status < 500:
                visit.outcome = Outcome.END.value
            if ask.need is Need.UNLOAD and found.answer.status < 400:
                self._unloaded(visit, model)
        return found

    def _unloaded(self, visit: ClientRequest, model: str) -> None:
        """Note that a client had a model unloaded: everybody has to load it again."""
        if not self._audit.seldom((visit.principal.id, model)):
            return
        self._audit.record(
            "model.unload",
            f"model:{model}",
            actor=visit.principal.label,
            client=visit.sender["client"],
            request_id=visit.request_id,
        )

    def present(self, visit: ClientRequest, call: ProxiedRequest) -> FirstResponse:
        trail = DecisionTrace(
            visit.request_id,
            visit.route.path,
            call.wish.model,
            time.time(),
            owner=visit.principal.owner,
            spans=visit.spans,
        )
        self._trails.add(trail)
        try:
            return self._failover.present(call, visit.attention, trail)
        except (NotFoundError, RefusedError) as error:
            if not self._found_since(error, call, trail):
                raise
            return self._failover.present(call, visit.attention, trail)
        finally:
            visit.attempts = trail.attempts
            if trail.steps and (picked := trail.steps[-1].decision.picked):
                visit.node = picked.name
                visit.model = call.wish.model

    def _found_since(
        self,
        error: NotFoundError | RefusedError,
        call: ProxiedRequest,
        trail: DecisionTrace,
    ) -> bool:
        """Whether a node that was not asked has the model by now."""
        if error.status != 404 or isinstance(error, RouteMissingError):
            return False
        picks = (step.decision.picked for step in trail.steps)
        return bool(self._find(call.wish.model) - {pick.name for pick in picks if pick})

    def call(
        self, ask: Ask, body: bytes, visit: ClientRequest, headers: dict[str, str]
    ) -> ProxiedRequest:
        by = visit.arrived + visit.terms.first_token_seconds
        if visit.terms.priority is Priority.INTERACTIVE:
            by = min(by, visit.arrived + self.limits.first_token_seconds)
        model = canonical(ask.model)
        if visit.spans is not None:
            operation = visit.route.operation
            visit.spans.describe(operation, model, streams=ask.streams)
        visit.account = self._usage.open(
            visit.principal.id,
            visit.principal.name,
            since=visit.arrived,
            model=model,
            request_id=visit.request_id,
            path=visit.route.label,
        )
        visit.call = ProxiedRequest(
            RoutingRequest(
                model,
                traits=traits_of(body),
                first_token_by=by,
                principal=visit.principal.id,
                session=visit.terms.session or session_of(body),
                picker=visit.terms.picker,
            ),
            UpstreamRequest("POST", visit.route.path, headers, body),
            visit.terms.priority,
            visit.arrived + min(self.limits.queue_seconds, visit.terms.seconds),
            streams=ask.streams,
            findings=Findings(body),
            account=visit.account,
        )
        return visit.call

    def pump(
        self,
        presented: FirstResponse,
        visit: ClientRequest,
        client: CooperativeSocket,
        *,
        chunked: bool,
        plain: bool,
    ) -> Outcome:
        """Pump a stream to its end; `plain` ones say each token as it is made."""
        lease, attention = presented.lease, visit.attention
        lease.decoding_since = time.monotonic()
        pump = Pump(
            presented.reply,
            client,
            attention,
            chunked=chunked,
            clock=time.monotonic,
        )
        return pump.run(self._failover.liveness.stream(lease, attention, plain=plain))

    def continuity(
        self, visit: ClientRequest, call: ProxiedRequest, presented: FirstResponse
    ) -> Continuity | None:
        """Keep what is needed to go on elsewhere; None where that would be wrong."""
        trail = self._trails.get(visit.request_id)
        if trail is None or refusal(call.message.path, call.message.body):
            return None
        continuity = Continuity(
            self._failover,
            call,
            visit.attention,
            trail,
            self._metrics,
            wait_seconds=self.limits.queue_seconds,
            clock=time.monotonic,
        )
        continuity.begin(presented)
        return continuity

    def first_line(self, visit: ClientRequest, presented: FirstResponse) -> None:
        seconds = time.monotonic() - visit.arrived
        presented.lease.first_token_seconds = seconds  # counted at the lease's end

    def end(self, presented: FirstResponse, outcome: Outcome, timings: Timings) -> None:
        """Give slot and connection back; the ledger's listeners count the reply."""
        self._failover.release(presented.reply)
        presented.lease.done(outcome, timings)

    def node_failed(self, visit: ClientRequest, presented: FirstResponse) -> None:
        """Have the others on a node hear of what its broken stream tells of them."""
        wordless = visit.route.path in WORDLESS
        self._failover.broke_off(presented.lease, presented.reply, wordless=wordless)

    def broke_off(self, outcome: str) -> None:
        self._metrics.failovers.labels("mid_stream", outcome).inc()

    def _count(
        self, trail: DecisionTrace, visit: ClientRequest, seconds: float
    ) -> None:
        """Count what a reply took, by the policy that chose its node."""
        step = trail.steps[-1] if trail.steps else None
        if step is None or not step.decision.picker or visit.outcome != Outcome.END:
            return
        observed, trace_id = self._metrics.scheduled_seconds, visit.trace_id
        completion = observed.labels(step.decision.picker, "completion")
        completion.observe(seconds, trace_id)
        if step.lease and step.lease.first_token_seconds:
            first = step.lease.first_token_seconds
            by_first = observed.labels(step.decision.picker, "first_token")
            by_first.observe(first, trace_id)

    def _end_spans(
        self, tracing: Tracing, spans: RequestSpans, visit: ClientRequest
    ) -> None:
        error = "" if visit.outcome in _NO_FAULT else visit.outcome
        if visit.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            error = error or str(visit.status)
        told: dict[str, Attribute] = {
            "http.response.status_code": visit.status,
            "inferops.request_id": visit.request_id,
            "inferops.outcome": visit.outcome,
            "inferops.attempts": visit.attempts,
            "inferops.node": visit.node,
        }
        spans.end(time.monotonic(), error, told)
        tracing.queue.add(spans)

    def rejected(self, reason: str) -> None:
        self._metrics.rejections.labels(reason).inc()

    def leave(self, visit: ClientRequest) -> None:
        """Count and log the request; the last thing that is done for it."""
        self.visits.leave(visit)
        visit.let_go()
        if visit.ticket is not None:
            self._quotas.end(visit.ticket, visit.tokens)
        if visit.call and visit.call.findings.deaths:
            outcome = Outcome(visit.outcome)
            self._failover.course.settle(visit.call, visit.node, outcome)
        seconds = time.monotonic() - visit.arrived
        trail = self._trails.get(visit.request_id)
        if trail:
            trail.ended = visit.outcome
            trail.over_at = time.monotonic()
            trail.spans = None
            visit.attempts = trail.attempts
            self._count(trail, visit, seconds)
        if self._tracing is not None and visit.spans is not None:
            self._end_spans(self._tracing, visit.spans, visit)
        if visit.account is not None:
            self._usage.close(visit.account, visit.status, visit.outcome)
        path = visit.route.label
        self._metrics.requests.labels(
            path, visit.model, visit.node, visit.outcome, visit.status
        ).inc()
        self._metrics.request_seconds.labels(path).observe(seconds, visit.trace_id)
        self._log(
            {
                "path": visit.route.path,
                "model": visit.model,
                "node": visit.node,
                "status": visit.status,
                "outcome": visit.outcome,
                "attempts": visit.attempts,
                "seconds": round(seconds, 4),
                **visit.sender,
                "principal": visit.principal.label,
                "request_id": visit.request_id,
            }
        )
