"""From a request's head and body to what the scheduler is asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from router.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
)
from router.failover.findings import Findings
from router.failover.proxied import ProxiedRequest
from router.model import Priority, canonical, is_model_name
from router.relay.fields import Ask
from router.relay.pool import UpstreamRequest
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.traits import session_of, traits_of
from router.web.inference.context import InferenceContext
from router.web.inference.headers import read_terms
from router.web.inference.limited import capped, limit_headers, prompt_tokens
from router.web.inference.request import ClientRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["proxied", "read_request"]

_MOST_SHOWN = 80  # letters of a name that is none
_FORWARDED = {
    "HTTP_ACCEPT": "Accept",
    "CONTENT_TYPE": "Content-Type",
    "HTTP_USER_AGENT": "User-Agent",
    "HTTP_TRACEPARENT": "traceparent",
    "HTTP_TRACESTATE": "tracestate",
}


def read_request(
    context: InferenceContext, request: ClientRequest, environ: WSGIEnvironment
) -> tuple[Ask, bytes]:
    """Read the body within its limits. Raises RequestError, CancelledError."""
    request.cancellation.check()
    try:
        ask, body = context.bodies.read(environ, request.route, context.limits)
    except BadRequestError:
        if not request.route.unknown:
            raise
        raise NotFoundError(f"POST {request.route.path}: no such path") from None
    finally:
        request.cancellation.check()  # cancelled meanwhile: say so
    request.keep_to(read_terms(environ, context.limits.request_seconds))
    if not is_model_name(ask.model):
        raise NotFoundError(f"model {ask.model[:_MOST_SHOWN]!r} not found")
    if not request.principal.may_use(ask.model):
        raise ForbiddenError(f"this API key is not for model {ask.model!r}")
    return ask, _let_in(context, request, body)


def proxied(
    context: InferenceContext,
    request: ClientRequest,
    environ: WSGIEnvironment,
    ask: Ask,
    body: bytes,
) -> ProxiedRequest:
    """Return the request as it goes to a node, and begin to account for it."""
    route, terms, limits = request.route, request.terms, context.limits
    by = request.arrived + terms.first_token_seconds
    if terms.priority is Priority.INTERACTIVE:
        by = min(by, request.arrived + limits.first_token_seconds)
    model = canonical(ask.model)
    if request.spans is not None:
        request.spans.describe(route.operation, model, streams=ask.streams)
    request.account = context.usage.open(
        request.principal.id,
        request.principal.name,
        since=request.arrived,
        model=model,
        request_id=request.request_id,
        path=route.label,
    )
    headers = {name: environ[k] for k, name in _FORWARDED.items() if environ.get(k)}
    headers["X-Request-Id"] = request.request_id
    if request.spans is not None:
        request.spans.propagate(headers)
    request.call = ProxiedRequest(
        RoutingRequest(
            model,
            traits=traits_of(body),
            first_token_by=by,
            principal=request.principal.id,
            session=terms.session or session_of(body),
            picker=terms.picker,
            prefixes=ask.prefixes,
        ),
        UpstreamRequest("POST", route.path, headers, body),
        terms.priority,
        request.arrived + min(limits.queue_seconds, terms.seconds),
        streams=ask.streams,
        findings=Findings(body),
        account=request.account,
    )
    return request.call


def _let_in(context: InferenceContext, request: ClientRequest, body: bytes) -> bytes:
    """Count the request against its limits.

    Returns the body, which asks for no more tokens than it may have. Raises
    RateLimitedError, ContextLimitError.
    """
    try:
        request.ticket = ticket = context.quotas.let_in(request.principal)
    except RateLimitedError:
        request.limit_headers = _limit_headers(context, request)
        raise
    if ticket is None:
        return body
    request.limit_headers = _limit_headers(context, request)
    limits = ticket.limits
    if limits.max_context_tokens is not None:
        tokens = prompt_tokens(traits_of(body).prompt_bytes)
        context.quotas.check_context(ticket, tokens)
    if not context.quotas.caps:
        return body
    return capped(
        request.route, body, limits.max_output_tokens, limits.max_context_tokens
    )


def _limit_headers(
    context: InferenceContext, request: ClientRequest
) -> list[tuple[str, str]]:
    usage = context.quotas.usage(request.principal)
    return limit_headers(request.route.dialect, usage, time.time())
