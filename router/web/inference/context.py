"""What all requests to the inference routes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from router.access.quota import Quotas
from router.audit.trail import AuditTrail
from router.failover.attempts import Failover
from router.failover.light import LightCalls
from router.logs.events import RequestLog
from router.metrics import Metrics
from router.scheduling.trace import DecisionTraces
from router.tracing.export import Tracing
from router.usage.ledger import UsageLedger
from router.web.inference.body import BodyReader
from router.web.inference.request import ClientRequests, IngressLimits

__all__ = ["InferenceContext"]


@dataclass(slots=True)
class InferenceContext:
    """The router's parts that a request meets; `limits` change with the settings.

    find: asks the nodes for a model that none is known to have; returns who has it
    """

    failover: Failover
    metrics: Metrics
    traces: DecisionTraces
    limits: IngressLimits
    light: LightCalls
    find: Callable[[str], frozenset[str]]
    log: RequestLog
    usage: UsageLedger
    audit: AuditTrail
    quotas: Quotas
    tracing: Tracing | None = None
    bodies: BodyReader = field(default_factory=BodyReader)
    under_way: ClientRequests = field(default_factory=ClientRequests)
