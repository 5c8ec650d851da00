"""What happened to one request, as spans: itself, its queue, attempts, continuations.

Plain data of the event loop; `router.tracing.otlp` makes OpenTelemetry's of it, in a
thread. Attributes never hold prompts, answers, keys or what a node or client wrote.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from router.config.address import endpoint
from router.model import Node, Outcome, Timings
from router.tracing.context import RANDOM, SAMPLED, TraceParent, traceparent

Attribute = str | int | float | bool
_UNNAMED = "generate"  # on a route that is not known here


class SpanKind(StrEnum):
    """OpenTelemetry's kinds."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


@dataclass(slots=True, eq=False)
class RecordedSpan:
    """One span; times on the router's monotonic clock.

    header: the `traceparent` of what is sent on its behalf
    error:  the class of its failure, as the router's metrics name it; empty: none
    events: names and times
    """

    name: str
    kind: SpanKind
    id: str
    parent_id: str
    began: float
    header: str
    ended: float | None = None
    error: str = ""
    attributes: dict[str, Attribute] = field(default_factory=dict)
    events: list[tuple[str, float]] = field(default_factory=list)

    @property
    def trace_id(self) -> str:
        return self.header[3:35]

    def fail(self, error: str, cause: str) -> None:
        self.error = error
        self.attributes["inferops.cause"] = cause

    def end(self, now: float, error: str = "") -> None:
        """End it; what has ended stays so."""
        if self.ended is None:
            self.ended, self.error = now, self.error or error


class RequestSpans:
    """Records the spans of one sampled request, in the order in which they begin.

    unix_offset: unix time minus the monotonic clock
    caller:      whose trace it belongs to; None: `trace_id` is a new one
    state:       the caller's `tracestate`, passed on as it came
    """

    def __init__(
        self,
        route: str,
        began: float,
        unix_offset: float,
        caller: TraceParent | None = None,
        state: str = "",
        *,
        trace_id: str = "",
    ) -> None:
        self.unix_offset = unix_offset
        self.caller = caller
        self.state = state if caller else ""
        self.flags = caller.flags | SAMPLED if caller else SAMPLED | RANDOM
        self.trace_id = caller.trace_id if caller else trace_id
        self.spans: list[RecordedSpan] = []
        parent = caller.span_id if caller else ""
        self.request = self._begin(f"POST {route}", SpanKind.SERVER, parent, began)
        self.request.attributes |= {"http.request.method": "POST", "http.route": route}
        self._queue: RecordedSpan | None = None
        self._continuation: RecordedSpan | None = None
        self._work: dict[str, Attribute] = {}
        self._name = _UNNAMED

    def describe(self, operation: str, model: str, *, streams: bool) -> None:
        """Say what is asked for, in the words of the GenAI semantic conventions."""
        self._name = f"{operation or _UNNAMED} {model}"
        self._work = {
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": streams,
        }
        if operation:
            self._work["gen_ai.operation.name"] = operation
        self.request.attributes |= self._work

    def propagate(self, headers: dict[str, str]) -> None:
        """Replace a caller's headers by those that go on to a node."""
        headers["traceparent"] = self.request.header
        headers.pop("tracestate", None)
        if self.state:
            headers["tracestate"] = self.state

    def wait(self, now: float, priority: str) -> None:
        """Begin to wait for a slot, unless the request waits already."""
        if self._queue is None:
            self._queue = self._begin("queue", SpanKind.INTERNAL, self._parent, now)
            self._queue.attributes["inferops.priority"] = priority

    def attempt(self, node: Node, now: float) -> RecordedSpan:
        """Begin an attempt on a slot that was taken `now`."""
        if self._queue is not None:
            self._queue.end(now)
            self._queue = None
        span = self._begin(self._name, SpanKind.CLIENT, self._parent, now)
        host, port, _ = endpoint(node.url)
        span.attributes |= self._work
        span.attributes |= {"server.address": host, "server.port": port}
        span.attributes["inferops.node"] = node.name
        return span

    def broke(self, cut_at: float, node: str, outcome: Outcome) -> None:
        """Begin to go on elsewhere with a stream that a node broke off."""
        if self._continuation is not None:
            self._continuation.end(cut_at, outcome)
        parent = self.request.id
        span = self._begin("continuation", SpanKind.INTERNAL, parent, cut_at)
        span.attributes |= {"inferops.from_node": node, "inferops.reason": outcome}
        self._continuation = span

    def resumed(self, now: float, resent_tokens: int) -> None:
        """Note that the text goes on, with so many tokens read again."""
        if self._continuation is not None:
            span = self._continuation
            span.events.append(("resumed", now))
            span.attributes["inferops.pause_seconds"] = now - span.began
            span.attributes["inferops.resent_tokens"] = resent_tokens

    def end(self, now: float, error: str, attributes: Mapping[str, Attribute]) -> None:
        """End the request, and with it whatever is open."""
        self.request.attributes |= attributes
        for span in reversed(self.spans):
            span.end(now, error)

    @property
    def _parent(self) -> str:
        return (self._continuation or self.request).id

    def _begin(
        self, name: str, kind: SpanKind, parent: str, now: float
    ) -> RecordedSpan:
        own = os.urandom(8).hex()
        header = traceparent(self.trace_id, own, self.flags)
        span = RecordedSpan(name, kind, own, parent, now, header)
        self.spans.append(span)
        return span


def end_attempt(
    span: RecordedSpan,
    now: float,
    outcome: Outcome,
    first: float | None,
    reported: Timings | None,
) -> None:
    """End an attempt.

    first:    when its first line came
    reported: what its node says of the reply
    """
    if first is not None:
        span.events.append(("first_token", first))
        since = first - span.began
        span.attributes["gen_ai.response.time_to_first_chunk"] = since
    if reported is not None and (reported.prompt_tokens or reported.generated_tokens):
        span.attributes |= {
            "gen_ai.usage.input_tokens": reported.prompt_tokens,
            "gen_ai.usage.output_tokens": reported.generated_tokens,
        }
    if reported is not None and reported.load_seconds > 0:
        span.attributes["inferops.load_seconds"] = reported.load_seconds
    span.attributes["inferops.outcome"] = outcome
    span.end(now, "" if outcome is Outcome.END else outcome)
