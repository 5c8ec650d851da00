"""Builds the control loop, the probes, and what a webhook notification goes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from router.alerts.firing import Firing
from router.alerts.notify import NotificationHandler
from router.assembly.dispatch import DispatchServices
from router.assembly.foundation import Foundation
from router.assembly.services import service
from router.clients.prometheus import PrometheusClient
from router.control.discovery import Discovery
from router.control.loop import Loop, Pass, Sources
from router.control.probe import Probe
from router.runtime.threads import CONTROL

_ASKED_SECONDS = 0.5  # while Alertmanager waits, before a node is held


@dataclass(frozen=True, slots=True)
class ControlServices:
    """What looks at nodes and alerts, beside the requests."""

    loop: Loop
    probe: Probe
    discovery: Discovery
    notifications: NotificationHandler


def build_control(base: Foundation, dispatch: DispatchServices) -> ControlServices:
    """Build it; the loop and the probe wake each other, so that each is named late."""
    health = base.health
    health.watch(wake=lambda: loop.wake())  # noqa: PLW0108 - made below
    health.one_pass = _pass(base, lambda: probe)
    loop = Loop(health.one_pass, lambda: base.config.control.interval_seconds)
    probe = Probe(
        inventory=lambda: base.inventory,
        settings=lambda: base.config.control,
        holds=base.holds,
        changed=loop.wake,
        moves=dispatch.failover.liveness.moves,
        clock=health.clock,
    )
    dispatch.scheduler.look_again = probe.hurry
    return ControlServices(
        loop, probe, Discovery(probe, base.published), _notifications(base, loop)
    )


def _pass(base: Foundation, probe: Callable[[], Probe]) -> Pass:
    sources = Sources(
        settings=lambda: base.config.control,
        inventory=lambda: base.inventory,
        signals=lambda: base.files.signals.value,
        models=lambda: probe().view(),
        prometheus=PrometheusClient(service(base.config.prometheus)),
    )
    return Pass(
        sources,
        base.holds,
        base.published,
        base.metrics,
        flapping=base.health.flapping,
        verification=base.health.verifier,
        offload=CONTROL,
        clock=base.health.clock,
    )


def _notifications(base: Foundation, loop: Loop) -> NotificationHandler:
    prometheus = service(base.config.prometheus)
    asked = replace(prometheus, timeout_seconds=_ASKED_SECONDS)
    return NotificationHandler(
        base.holds,
        fleet=lambda: base.inventory.names(),  # noqa: PLW0108 - it is replaced
        wake=loop.wake,
        seconds=lambda: base.config.control.provisional_hold_seconds,
        firing=Firing(PrometheusClient(asked).firing),
        clock=base.health.clock,
    )
