"""W3C Trace Context, beside OpenTelemetry's own reader of it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router.tracing.context import in_share, parse, traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEX = st.text("0123456789abcdef", min_size=1, max_size=34)


@example("00", TRACE, SPAN, "01", "")
@example("00", TRACE, SPAN, "03", "")
@example("00", "0" * 32, SPAN, "01", "")
@example("00", TRACE, "0" * 16, "01", "")
@example("ff", TRACE, SPAN, "01", "")
@example("00", TRACE, SPAN, "01", "-more")
@example("01", TRACE, SPAN, "01", "-more")
@example("00", TRACE.upper(), SPAN, "01", "")
@given(HEX, HEX, HEX, HEX, st.sampled_from(["", "-", "-x", " "]))
def test_read_as_opentelemetry_reads(version, trace_id, span_id, flags, more):
    """What is a header to the official reader is one here, with the same ids."""
    header = f"{version}-{trace_id}-{span_id}-{flags}{more}"
    context = TraceContextTextMapPropagator().extract({"traceparent": header})
    theirs, ours = get_current_span(context).get_span_context(), parse(header)
    assert theirs.is_valid == (ours is not None)
    if ours is not None:
        assert theirs.trace_id == int(ours.trace_id, 16)
        assert theirs.span_id == int(ours.span_id, 16)
        assert theirs.trace_flags.sampled == ours.sampled


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_what_is_written_is_read(flags):
    """Both flags survive: sampled, and random of Level 2."""
    found = parse(traceparent(TRACE, SPAN, flags))
    assert found is not None
    assert (TRACE, SPAN, flags) == (found.trace_id, found.span_id, found.flags)


@given(st.integers(1, 2**128 - 1), st.floats(0, 1))
@example(2**64, 0.0)
@example(2**64 - 1, 1.0)
def test_sampled_as_opentelemetry_samples(number, ratio):
    """Several routers, and other services, choose the same traces."""
    sampled = TraceIdRatioBased(ratio).should_sample(None, number, "x")
    assert sampled.decision.is_sampled() == in_share(f"{number:032x}", ratio)
