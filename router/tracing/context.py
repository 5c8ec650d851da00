"""W3C Trace Context: the trace that a request belongs to; pure.

https://www.w3.org/TR/trace-context/ is the source of every rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SAMPLED, RANDOM = 1, 2  # flags; RANDOM since Level 2
_KNOWN = SAMPLED | RANDOM
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


@dataclass(frozen=True, slots=True)
class TraceParent:
    """What a caller sends: its trace, its span, and whether it records them."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parse(header: str) -> TraceParent | None:
    """Read a `traceparent`; None where it is none.

    A later version may add fields behind those of version 00.
    """
    found = _FORM.fullmatch(header.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceParent(trace_id, span_id, int(flags, 16) & _KNOWN)


def traceparent(trace_id: str, span_id: str, flags: int) -> str:
    return f"00-{trace_id}-{span_id}-{flags:02x}"


def in_share(trace_id: str, ratio: float) -> bool:
    """Say whether a new trace is among the share that is recorded.

    By its id, as OpenTelemetry's TraceIdRatioBased: all routers agree.
    """
    return int(trace_id[16:], 16) < round(ratio * 2**64)
