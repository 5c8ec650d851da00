"""Builds what sends requests to nodes: ledger, scheduler, connections, attempts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from router.assembly.failover import FailoverParts, build_failover
from router.assembly.foundation import Foundation
from router.assembly.tracing import build_tracing
from router.assembly.traffic_health import TrafficHealth
from router.capacity.ledger import Ledger
from router.capacity.persistence import LedgerPersistence
from router.config.settings import pickers_by_model
from router.failover.attempts import Failover
from router.pickers import Policies
from router.relay.pool import Backends
from router.runtime.threads import DISK
from router.scheduling.idle import FleetView
from router.scheduling.queue import Queue
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTraces
from router.tracing.export import Tracing


@dataclass(frozen=True, slots=True)
class DispatchServices:
    """The data path, from a free slot to a node's reply."""

    ledger: Ledger
    persistence: LedgerPersistence
    traces: DecisionTraces
    traffic: TrafficHealth
    scheduler: Scheduler
    backends: Backends
    failover: Failover
    fleet: FleetView
    tracing: Tracing | None


def build_dispatch(base: Foundation) -> DispatchServices:
    """Build it in an order that matters: slow start listens before the queue does."""
    ledger = _ledger(base)
    persistence = _persistence(base, ledger)
    traffic = TrafficHealth(lambda: base.config, base.holds, ledger, base.published)
    scheduler = _scheduler(base, ledger, traffic)
    base.quotas.refused = scheduler.refused
    backends = Backends(base.config.dispatch.connect_timeout_seconds, base.bodies)
    targets = base.health.destinations(scheduler, base.published)
    failover = build_failover(
        FailoverParts(
            config=lambda: base.config,
            dispatcher=scheduler,
            backends=backends,
            holds=base.holds,
            metrics=base.metrics,
            ledger=ledger,
            published=base.published,
            destinations=targets,
            learned=traffic.learned(scheduler),
        )
    )
    base.health.empty_nodes(targets, ledger, base.published)
    return DispatchServices(
        ledger=ledger,
        persistence=persistence,
        traces=DecisionTraces(),
        traffic=traffic,
        scheduler=scheduler,
        backends=backends,
        failover=failover,
        fleet=_fleet_view(base, ledger, scheduler, traffic),
        tracing=build_tracing(base, ledger),
    )


def _ledger(base: Foundation) -> Ledger:
    ledger = Ledger(base.config.dispatch.default_slots, time.monotonic)
    ledger.configure(base.inventory.nodes)
    base.health.ease(ledger)
    ledger.listen(base.metrics.replies.ended)
    return ledger


def _persistence(base: Foundation, ledger: Ledger) -> LedgerPersistence:
    persistence = LedgerPersistence(
        base.config.state.directory,
        ledger,
        clock=time.time,
        monotonic=time.monotonic,
        offload=DISK,
    )
    persistence.load(base.inventory)
    return persistence


def _scheduler(base: Foundation, ledger: Ledger, traffic: TrafficHealth) -> Scheduler:
    dispatch = base.config.dispatch
    return Scheduler(
        base.published,
        base.holds,
        ledger,
        Queue(dispatch.max_waiting),
        Policies(dispatch.picker, pickers_by_model(dispatch.pickers)),
        clock=time.monotonic,
        health=traffic.circuits,
    )


def _fleet_view(
    base: Foundation, ledger: Ledger, scheduler: Scheduler, traffic: TrafficHealth
) -> FleetView:
    return FleetView(
        base.published,
        base.holds,
        ledger,
        scheduler.queue,
        scheduler.estimates,
        traffic.circuits,
    )
