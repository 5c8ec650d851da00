"""A real OTLP/HTTP receiver: decodes what is sent with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.harness.http_thread import Quiet, Served
from tests.harness.poll import until


@dataclass(frozen=True)
class Received:
    """One span as a backend has it."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent_id: str
    began: int
    ended: int
    attributes: Mapping[str, Any]
    events: tuple[str, ...]
    failed: bool
    state: str


class Collector(Served):
    """Keeps the spans that it is sent; `status` is what it answers."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.headers: list[dict[str, str]] = []
        self.resources: list[dict[str, Any]] = []
        self.raw = b""
        self.status = 200
        super().__init__(self._handler())

    def trace(self, trace_id: str, count: int = 1) -> list[Received]:
        """Return a trace once it has at least so many spans, by when they began."""

        def found() -> list[Received]:
            return [each for each in self.spans if each.trace_id == trace_id]

        until(lambda: len(found()) >= count, f"{count} spans of {trace_id}")
        return sorted(found(), key=lambda span: span.began)

    def take(self, body: bytes) -> None:
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_values(of_resource.resource.attributes))
            for of_scope in of_resource.scope_spans:
                self.spans += map(_received, of_scope.spans)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append(dict(self.headers.items()))
                assert self.path == "/v1/traces"
                if collector.status == 200:
                    collector.take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        return Handler


def _received(span: Span) -> Received:
    return Received(
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
        tuple(each.name for each in span.events),
        span.status.code == 2,
        span.trace_state,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value"))
        for each in attributes
    }
