"""Alertmanager's bell: holds a node at once, until the level has spoken.

A ring is only a hint. It places a hold that runs out by itself unless a level
pass confirms it, and it never lifts one. Each (fingerprint, startsAt) rings
once: repeats, replays of what the level refuted, and a firing that arrives
behind its own resolution have no effect.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from alerting.payload import Alert, Status
from router.alerts.labels import hold_for, ignored, matches
from router.holds.store import HoldStore, by_alert
from router.model import Hold, HoldState

__all__ = ["Doorbell", "Ring"]

_REMEMBERED = 10_000


class Ring(StrEnum):
    """What a notified alert came to."""

    PLACED = "placed"
    REPEATED = "repeated"
    RESOLVED = "resolved"
    UNKNOWN_NODE = "unknown_node"
    UNKNOWN_ACTION = "unknown_action"
    BAD_FACTOR = "bad_factor"


class Doorbell:
    """Hears notified alerts; one for the process."""

    def __init__(
        self,
        holds: HoldStore,
        fleet: Callable[[], frozenset[str]],
        wake: Callable[[], None],
        seconds: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._holds = holds
        self._fleet = fleet
        self._wake = wake
        self._seconds = seconds
        self._clock = clock
        self._heard: OrderedDict[tuple[str, str], None] = OrderedDict()

    def ring(self, alert: Alert) -> Ring:
        """Hear one alert; raises StateError when its hold stands but is not saved."""
        reason = ignored(alert.labels, self._fleet())
        if reason is not None:
            return Ring(reason.value)
        once = (alert.fingerprint, alert.starts_at)
        repeated = once in self._heard
        self._remember(once)
        if alert.status is Status.RESOLVED:
            return Ring.RESOLVED
        if repeated:
            return Ring.REPEATED
        self._holds.place(self._hold(alert))
        return Ring.PLACED

    def wake(self) -> None:
        """Have the level looked at now."""
        self._wake()

    def _hold(self, alert: Alert) -> Hold:
        now = self._clock()
        name = alert.labels.get("alertname", "")
        reason = alert.annotations.get("summary") or name
        rung = replace(
            hold_for(alert.labels, reason, now),
            state=HoldState.DOORBELL,
            until=now + self._seconds(),
        )
        for hold in self._holds.of(rung.node):
            if by_alert(hold) and matches(rung.labels, hold.labels):
                return replace(rung, source=hold.source)
        return rung

    def _remember(self, once: tuple[str, str]) -> None:
        self._heard[once] = None
        self._heard.move_to_end(once)
        if len(self._heard) > _REMEMBERED:
            self._heard.popitem(last=False)
