"""A client's request on its way to a node."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.failover.findings import Findings
from router.model import Priority
from router.relay.pool import UpstreamRequest
from router.scheduling.pipeline import RoutingRequest
from router.usage.account import UsageAccount

__all__ = ["ProxiedRequest"]


@dataclass(slots=True)
class ProxiedRequest:
    """A client's request on its way; `deadline` in the router's monotonic time.

    findings: what its attempts found out, over all segments of its stream
    account:  where its use is counted
    """

    routing: RoutingRequest
    message: UpstreamRequest
    priority: Priority
    deadline: float
    streams: bool = False
    findings: Findings = field(default_factory=Findings)
    account: UsageAccount | None = None
