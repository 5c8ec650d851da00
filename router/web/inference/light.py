"""Requests that need no slot: a model's details, loading, unloading."""

from __future__ import annotations

from router.errors import NotFoundError
from router.failover.light import LightAnswer, LightRequest
from router.model import Outcome, canonical
from router.relay.done_reason import done_reason_in
from router.relay.fields import Ask, Need
from router.web.inference.context import InferenceContext
from router.web.inference.request import ClientRequest

__all__ = ["answer_light"]


def answer_light(
    context: InferenceContext, request: ClientRequest, ask: Ask, body: bytes
) -> LightAnswer | None:
    """Answer what needs no slot; None where a slot is needed after all."""
    model = canonical(ask.model)
    longest = min(context.limits.queue_seconds, request.terms.seconds)
    asked = LightRequest(
        ask.need, model, request.route.path, body, request.arrived + longest
    )
    try:
        found = context.light.answer(asked, request.cancellation)
    except NotFoundError:
        if not context.find(model):
            raise
        found = context.light.answer(asked, request.cancellation)
    if found:
        request.attempts, request.node = found.attempts, found.node
        request.model = model
        if found.answer.status < 500:
            request.outcome = Outcome.END.value
        if ask.need is not Need.DISK and found.answer.status < 400:
            reason = done_reason_in(found.answer.body)
            context.metrics.replies.answered(found.node, model, reason)
        if ask.need is Need.UNLOAD and found.answer.status < 400:
            _note_unload(context, request, model)
    return found


def _note_unload(context: InferenceContext, request: ClientRequest, model: str) -> None:
    """Note that a client had a model unloaded: everybody has to load it again."""
    if not context.audit.seldom((request.principal.id, model)):
        return
    context.audit.record(
        "model.unload",
        f"model:{model}",
        actor=request.principal.label,
        client=request.sender["client"],
        request_id=request.request_id,
    )
