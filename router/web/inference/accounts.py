"""What is counted and logged of a request when it is over."""

from __future__ import annotations

import time
from http import HTTPStatus

from router.metrics import Metrics
from router.model import Outcome
from router.scheduling.trace import DecisionTrace
from router.tracing.export import Tracing
from router.tracing.spans import Attribute, RequestSpans
from router.web.inference.context import InferenceContext
from router.web.inference.request import ClientRequest

__all__ = ["close_request"]

# What a server's span does not call an error: the client's own doing.
_NO_FAULT = frozenset({Outcome.END, Outcome.CLIENT_GONE, Outcome.REFUSED})


def close_request(
    context: InferenceContext, request: ClientRequest, trace: DecisionTrace | None
) -> None:
    """Count and log the request; the last thing that is done for it."""
    context.under_way.leave(request)
    request.release()
    if request.ticket is not None:
        context.quotas.end(request.ticket, request.tokens)
    if request.call and request.call.findings.deaths:
        outcome = Outcome(request.outcome)
        context.failover.course.settle(request.call, request.node, outcome)
    seconds = time.monotonic() - request.arrived
    if trace:
        trace.ended = request.outcome
        trace.over_at = time.monotonic()
        trace.spans = None
        request.attempts = trace.attempts
        if request.outcome == Outcome.END:
            _count_by_policy(context.metrics, trace, seconds, request.trace_id)
    if context.tracing is not None and request.spans is not None:
        _end_spans(context.tracing, request.spans, request)
    if request.account is not None:
        context.usage.close(request.account, request.status, request.outcome)
    path = request.route.label
    context.metrics.requests.labels(
        path, request.model, request.node, request.outcome, request.status
    ).inc()
    context.metrics.request_seconds.labels(path).observe(seconds, request.trace_id)
    context.log(
        {
            "path": request.route.path,
            "model": request.model,
            "node": request.node,
            "status": request.status,
            "outcome": request.outcome,
            "attempts": request.attempts,
            "seconds": round(seconds, 4),
            **request.sender,
            "principal": request.principal.label,
            "request_id": request.request_id,
        }
    )


def _end_spans(tracing: Tracing, spans: RequestSpans, request: ClientRequest) -> None:
    error = "" if request.outcome in _NO_FAULT else request.outcome
    if request.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        error = error or str(request.status)
    reported: dict[str, Attribute] = {
        "http.response.status_code": request.status,
        "inferops.request_id": request.request_id,
        "inferops.outcome": request.outcome,
        "inferops.attempts": request.attempts,
        "inferops.node": request.node,
    }
    spans.end(time.monotonic(), error, reported)
    tracing.queue.add(spans)


def _count_by_policy(
    metrics: Metrics, trace: DecisionTrace, seconds: float, trace_id: str
) -> None:
    """Count what a reply took, by the policy that chose its node."""
    step = trace.steps[-1] if trace.steps else None
    if step is None or not step.decision.picker:
        return
    observed = metrics.scheduled_seconds
    observed.labels(step.decision.picker, "completion").observe(seconds, trace_id)
    if step.lease and step.lease.first_token_seconds:
        first = step.lease.first_token_seconds
        by_first = observed.labels(step.decision.picker, "first_token")
        by_first.observe(first, trace_id)
