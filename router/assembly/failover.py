"""Attempts, and what watches over them, put together.

Part of the composition root; it decides nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from router.capacity.ledger import Ledger
from router.clients.http_json import PollError, exchange, get_json
from router.config.settings import Config
from router.failover.attempts import AttemptLimits, Failover
from router.failover.course import TrafficKnowledge
from router.failover.dead_runner import DeadRunners
from router.failover.destinations import MigrationTargets
from router.failover.liveness import Inquiry, Liveness, SilenceLimits
from router.failover.releases import Releases
from router.failover.retry import RetryBudget
from router.holds.store import HoldStore
from router.metrics import Metrics
from router.relay.pool import Backends
from router.scheduling.scheduler import Scheduler
from router.snapshot import Published


@dataclass(frozen=True, slots=True)
class FailoverParts:
    """What attempts are made with."""

    config: Callable[[], Config]
    dispatcher: Scheduler
    backends: Backends
    holds: HoldStore
    metrics: Metrics
    ledger: Ledger
    published: Published
    destinations: MigrationTargets
    learned: TrafficKnowledge


def build_failover(parts: FailoverParts) -> Failover:
    dispatch = parts.config().dispatch
    liveness = Liveness(
        Inquiry(lambda node: _answers(parts, node)),
        parts.ledger,
        parts.destinations,
        _silence_limits(parts.config()),
        clock=time.monotonic,
    )
    runners = DeadRunners(
        parts.ledger,
        parts.published,
        liveness,
        parts.metrics,
        runs=lambda node, model: _runs(parts, node, model),
    )
    return Failover(
        parts.dispatcher,
        parts.backends,
        parts.holds,
        parts.metrics,
        AttemptLimits(dispatch.attempts),
        learned=parts.learned,
        releases=Releases(parts.published),
        budget=RetryBudget(dispatch.retry_ratio, dispatch.retry_minimum),
        liveness=liveness,
        runners=runners,
    )


def apply(failover: Failover, config: Config) -> None:
    """Take over settings; attempts under way go on."""
    dispatch = config.dispatch
    failover.limits = AttemptLimits(dispatch.attempts)
    failover.liveness.limits = _silence_limits(config)
    failover.budget.tune(dispatch.retry_ratio, dispatch.retry_minimum)


def _silence_limits(config: Config) -> SilenceLimits:
    dispatch = config.dispatch
    return SilenceLimits(
        dispatch.first_byte_timeout_seconds, dispatch.stall_timeout_seconds
    )


def _answers(parts: FailoverParts, node: str) -> bool:
    """Ask a node's server whether it is there; it needs no slot for that."""
    view = parts.published.current.nodes.get(node)
    try:
        if view is not None:
            seconds = parts.config().control.probe_timeout_seconds
            get_json(view.node, "/api/version", seconds)
    except PollError:
        return False
    return view is not None


def _runs(parts: FailoverParts, node: str, model: str) -> bool:
    """Ask for a model to be loaded, which a live runner answers at once."""
    view = parts.published.current.nodes.get(node)
    if view is None:
        return False
    seconds = parts.config().control.probe_timeout_seconds
    body = {"model": model, "stream": False}
    try:
        exchange("POST", view.node, "/api/generate", seconds, body=body)
    except PollError:
        return False
    return True
