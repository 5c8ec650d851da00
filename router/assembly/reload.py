"""Has every part take over what a reloaded file says; requests under way go on."""

from __future__ import annotations

import time
from typing import Any

from router.assembly.control import ControlServices
from router.assembly.dispatch import DispatchServices
from router.assembly.failover import apply as apply_failover
from router.assembly.foundation import Foundation
from router.config.settings import Config, pickers_by_model
from router.logs.events import configure
from router.pickers import Policies
from router.scheduling.head_room import HeadRoom
from router.web.inference.request import IngressLimits


def apply_settings(base: Foundation, dispatch: DispatchServices) -> None:
    """Take over settings that need no restart; those of the web side: `WebServices`."""
    config = base.config
    settings, scheduler = config.dispatch, dispatch.scheduler
    configure(config.log)
    base.bodies.most_bytes = settings.max_bodies_bytes
    dispatch.ledger.default_slots = settings.default_slots
    scheduler.queue.limit = settings.max_waiting
    by_model = pickers_by_model(settings.pickers)
    scheduler.policies = Policies(settings.picker, by_model)
    scheduler.head_room = HeadRoom(settings.head_room, settings.batch_wait_seconds)
    scheduler.neighbours.clear = settings.nodes_for_others
    scheduler.neighbours.most_idle = settings.idle_for_others
    scheduler.down_wait_seconds = settings.down_wait_seconds
    dispatch.backends.connect_timeout_seconds = settings.connect_timeout_seconds
    apply_failover(dispatch.failover, config)
    base.keys.apply()


def apply_inventory(
    base: Foundation, dispatch: DispatchServices, control: ControlServices
) -> None:
    """Take over which nodes there are, and have them scored."""
    names = base.inventory.names()
    dispatch.ledger.configure(base.inventory.nodes)
    base.metrics.replies.keep(names)
    base.holds.fleet(names)
    control.loop.wake()


def ingress_limits(config: Config) -> IngressLimits:
    """Return what a client may send, and how long it may wait."""
    dispatch = config.dispatch
    return IngressLimits(
        max_body_bytes=dispatch.max_body_bytes,
        queue_seconds=dispatch.queue_timeout_seconds,
        request_seconds=dispatch.request_timeout_seconds,
        first_token_seconds=dispatch.first_token_seconds or float("inf"),
    )


def reload_files(base: Foundation, *, confirmed: bool) -> list[dict[str, Any]]:
    """Read every file again now; return what came of each."""
    now = time.time()
    statuses = [each.reload(now, confirmed=confirmed) for each in base.watched()]
    return [
        {
            "file": status.file,
            "successful": status.successful,
            "fault": status.fault,
        }
        for status in statuses
    ]
