"""Handles Alertmanager's notifications: holds a node at once if Prometheus agrees.

A notification is only a hint: whoever may post to Alertmanager can send one. The node
is held only if Prometheus shows the alert, with the labels that Prometheus shows. The
hold is provisional: it expires unless a reconcile pass confirms it. A notification
never lifts a hold. Each (fingerprint, startsAt) places one hold: repeats, replays of
rejected alerts and a firing that arrives after its own resolution have no effect.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from alerting.payload import Alert, Status
from router.alerts.labels import hold_for, ignored, matches
from router.clients.prometheus import FiringAlert
from router.errors import PrometheusError, StateError
from router.holds.effect import by_alert
from router.holds.record import NOBODY, Actor
from router.holds.store import HoldStore
from router.model import Hold, HoldState
from router.runtime.recent import Recent

_REMEMBERED = 10_000
# Seconds before each query: a Prometheus shows an alert before it sends it, but the
# other one of a pair may show it later. Together they take less than a second.
_PAUSES = (0.0, 0.1, 0.3)
_ASKING_SECONDS = 0.8
_DENIED_SECONDS = 10.0  # an alert that was not shown is asked about later
_MOST_REASON = 500


class NotificationOutcome(StrEnum):
    """What became of a notified alert."""

    PLACED = "placed"
    REPEATED = "repeated"
    RESOLVED = "resolved"
    NOT_SHOWN = "not_shown"  # Prometheus does not show it firing
    NOT_ASKED = "not_asked"  # Prometheus did not answer
    UNKNOWN_NODE = "unknown_node"
    UNKNOWN_ACTION = "unknown_action"
    BAD_FACTOR = "bad_factor"


class NotificationHandler:
    """Handles notified alerts; one for the process.

    firing: returns the alerts that Prometheus shows; raises PrometheusError
    """

    def __init__(
        self,
        holds: HoldStore,
        fleet: Callable[[], frozenset[str]],
        wake: Callable[[], None],
        seconds: Callable[[], float],
        firing: Callable[[], Sequence[FiringAlert]],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._holds = holds
        self._fleet = fleet
        self._wake = wake
        self._seconds = seconds
        self._firing = firing
        self._clock = clock
        self._monotonic = monotonic
        self._pause = pause
        self._heard: Recent[_Once, None] = Recent(_REMEMBERED)
        self._denied: Recent[_Once, float] = Recent(_REMEMBERED)

    def hear(
        self, alerts: Sequence[Alert], actor: Actor = NOBODY
    ) -> tuple[NotificationOutcome, ...]:
        """Handle a notification; raises StateError if a hold acts but is not saved."""
        outcomes = [self._known(alert) for alert in alerts]
        fresh = [n for n, outcome in enumerate(outcomes) if outcome is None]
        proven, otherwise = self._proven({n: alerts[n] for n in fresh})
        failure: StateError | None = None
        for n in fresh:
            outcomes[n] = NotificationOutcome.PLACED if n in proven else otherwise
            if n not in proven:
                self._denied[_once(alerts[n])] = self._monotonic()
                continue
            self._heard[_once(alerts[n])] = None
            try:
                self._holds.place(self._hold(proven[n]), actor)
            except StateError as error:
                failure = error
        if failure is not None:
            raise failure
        return tuple(outcome for outcome in outcomes if outcome is not None)

    def wake(self) -> None:
        """Start a reconcile pass now."""
        self._wake()

    def _known(self, alert: Alert) -> NotificationOutcome | None:
        """Return the outcome; None where Prometheus must be asked for it."""
        reason = ignored(alert.labels, self._fleet())
        if reason is not None:
            return NotificationOutcome(reason.value)
        once = _once(alert)
        repeated = once in self._heard
        if repeated or alert.status is Status.RESOLVED:
            self._heard[once] = None
            return (
                NotificationOutcome.REPEATED
                if repeated and alert.status is Status.FIRING
                else NotificationOutcome.RESOLVED
            )
        denied = self._denied.get(once, -math.inf)
        return (
            NotificationOutcome.NOT_SHOWN
            if self._monotonic() < denied + _DENIED_SECONDS
            else None
        )

    def _proven(
        self, alerts: Mapping[int, Alert]
    ) -> tuple[Mapping[int, FiringAlert], NotificationOutcome]:
        """Return the alerts that Prometheus shows, and the outcome of the others."""
        proven: dict[int, FiringAlert] = {}
        left = dict(alerts)
        deadline = self._monotonic() + _ASKING_SECONDS
        for seconds in _PAUSES:
            if not left or self._monotonic() + seconds > deadline:
                break
            if seconds:
                self._pause(seconds)
            try:
                shown = _by_node(self._firing())
            except PrometheusError:
                return proven, NotificationOutcome.NOT_ASKED
            for n, alert in tuple(left.items()):
                found = _shown_of(alert, shown)
                if found is not None:
                    proven[n] = found
                    del left[n]
        return proven, NotificationOutcome.NOT_SHOWN

    def _hold(self, alert: FiringAlert) -> Hold:
        now = self._clock()
        name = alert.labels.get("alertname", "")
        reason = alert.annotations.get("summary") or name
        provisional = replace(
            hold_for(alert.labels, reason[:_MOST_REASON], now),
            state=HoldState.PROVISIONAL,
            until=now + self._seconds(),
        )
        for hold in self._holds.of(provisional.node):
            if by_alert(hold) and matches(provisional.labels, hold.labels):
                return replace(provisional, source=hold.source)
        return provisional


_Once = tuple[str, str]


def _once(alert: Alert) -> _Once:
    return alert.fingerprint, alert.starts_at


_Shown = Mapping[tuple[str, str], Sequence[FiringAlert]]


def _by_node(alerts: Sequence[FiringAlert]) -> _Shown:
    found: defaultdict[tuple[str, str], list[FiringAlert]] = defaultdict(list)
    for alert in alerts:
        found[_key(alert.labels)].append(alert)
    return found


def _shown_of(alert: Alert, shown: _Shown) -> FiringAlert | None:
    """Return the alert of a notification: the match with the most labels."""
    found = [
        each
        for each in shown.get(_key(alert.labels), ())
        if matches(alert.labels, each.labels)
    ]
    return max(found, key=lambda each: len(each.labels), default=None)


def _key(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("alertname", ""), labels.get("node", "")
