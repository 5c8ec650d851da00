"""Sends spans to a collector by OTLP over HTTP, with OpenTelemetry's own SDK.

The only file that imports it: it is an extra (`pip install inferops[opentelemetry]`),
and is imported by name where traces are on. Everything here runs in a native thread.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import requests
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from router.tracing.spans import RecordedSpan, RequestSpans

_KINDS = {
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "internal": trace.SpanKind.INTERNAL,
}


class _RecordedIds(IdGenerator):
    """Gives spans the ids that nodes have been sent already."""

    trace_id = span_id = 0

    def generate_span_id(self) -> int:
        return self.span_id

    def generate_trace_id(self) -> int:
        return self.trace_id


class _Ended(SpanProcessor):
    """Gathers what is to be sent at once."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class _LastError(logging.Handler):
    """Keeps what the SDK would log each time; whoever exports says it once."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


class OtlpExporter:
    """Makes OpenTelemetry's spans of recorded ones and sends them.

    url:  of the collector, without the path of the signal
    What is not given comes from OpenTelemetry's environment variables.
    """

    def __init__(
        self,
        url: str,
        session: requests.Session,
        *,
        ca_file: str | None,
        timeout_seconds: float,
        version: str,
    ) -> None:
        self._exporter = OTLPSpanExporter(
            endpoint=f"{url}/v1/traces",
            certificate_file=ca_file,
            timeout=timeout_seconds,
            session=session,
        )
        self._ids = _RecordedIds()
        self._ended = _Ended()
        named = {"service.name": "inferops-router", "service.version": version}
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # what comes here was sampled
            resource=Resource.create(named).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        provider.add_span_processor(self._ended)
        self._error = _LastError(logging.ERROR)
        logger = logging.getLogger("opentelemetry.exporter")
        logger.handlers, logger.propagate = [self._error], False
        self._tracer = provider.get_tracer("inferops.router", version)

    def export(self, requests: Sequence[RequestSpans]) -> str:
        """Send them; says why the collector did not take them, or nothing."""
        for each in requests:
            for span in each.spans:
                self._record(each, span)
        spans, self._ended.spans = self._ended.spans, []
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return ""
        return self._error.text or "not taken"

    def _record(self, request: RequestSpans, span: RecordedSpan) -> None:
        self._ids.trace_id = int(request.trace_id, 16)
        self._ids.span_id = int(span.id, 16)
        made = self._tracer.start_span(
            span.name,
            _parent(request, span),
            _KINDS[span.kind],
            span.attributes,
            start_time=_unix_ns(request, span.began),
            record_exception=False,
        )
        for name, at in span.events:
            made.add_event(name, timestamp=_unix_ns(request, at))
        if span.error:
            made.set_attribute("error.type", span.error)
            made.set_status(Status(StatusCode.ERROR))
        made.end(_unix_ns(request, span.began if span.ended is None else span.ended))


def _parent(request: RequestSpans, span: RecordedSpan) -> Context:
    if not span.parent_id:
        return Context()
    parent = SpanContext(
        int(request.trace_id, 16),
        int(span.parent_id, 16),
        is_remote=span is request.request,
        trace_flags=TraceFlags(request.flags),
        trace_state=TraceState.from_header([request.state]) if request.state else None,
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _unix_ns(request: RequestSpans, at: float) -> int:
    return int((at + request.unix_offset) * 1e9)
