"""Puts tracing together where it is on; where it is off, nothing of it is there."""

from __future__ import annotations

import importlib
import time

from router import __version__
from router.assembly.foundation import Foundation
from router.assembly.services import service
from router.capacity.ledger import Lease, Ledger
from router.clients.session import open_session
from router.model import Outcome, Timings
from router.tracing.export import SpanQueue, Tracing, export_thread
from router.tracing.spans import end_attempt


def build_tracing(base: Foundation, leases: Ledger) -> Tracing | None:
    """Return what traces requests; None where traces are off."""
    traces = base.config.traces
    if not traces.url:
        return None
    collector = service(traces)
    otlp = importlib.import_module("router.tracing.otlp")  # only where it is wanted
    exporter = otlp.OtlpExporter(
        traces.url,
        open_session(collector),
        ca_file=str(traces.ca_file) if traces.ca_file else None,
        timeout_seconds=traces.timeout_seconds,
        version=__version__,
    )
    queue = SpanQueue(exporter, export_thread(traces.timeout_seconds))
    leases.listen(_lease_ended)
    base.metrics.watch_traces(queue)
    return Tracing(queue, lambda: base.config.traces.sample_ratio)


def _lease_ended(lease: Lease, outcome: Outcome, reported: Timings | None) -> None:
    if lease.span is not None:
        first = lease.decoding_since
        end_attempt(lease.span, time.monotonic(), outcome, first, reported)
