"""Counts how often a node returned from an alert, and delays its next return.

A node that leaves and returns every minute is worse than one that is out: each time its
models are loaded again and its streams are moved. After a few returns the alert must be
gone for longer before the hold is lifted, twice as long each time, up to a limit.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from router.holds.record import AuditEvent, Change
from router.model import HoldState

_MOST_KEPT = 64  # returns of one node and alert: far beyond any hold-down's bound


@dataclass(frozen=True, slots=True)
class FlapPolicy:
    """When a return is delayed, and for how long; seconds.

    returns: this many within `window_seconds` delay the next one by `first_seconds`;
             each further return doubles that, up to `longest_seconds`
    """

    returns: int
    window_seconds: float
    first_seconds: float
    longest_seconds: float

    def hold_down(self, returns: int) -> float:
        """Return how long an alert must be gone after so many returns."""
        if returns < self.returns:
            return 0.0
        doubled = self.first_seconds * 2.0 ** min(returns - self.returns, 30)
        return min(self.longest_seconds, doubled)


class Flapping:
    """Times of returns by node and alert, in monotonic seconds."""

    def __init__(
        self,
        patience: Callable[[], FlapPolicy],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._monotonic = monotonic
        self._returns: defaultdict[tuple[str, str], deque[float]] = defaultdict(
            lambda: deque(maxlen=_MOST_KEPT)
        )

    def see(self, event: AuditEvent) -> None:
        """Count an event of the hold store."""
        self._count(event, 0.0)

    def recall(self, events: Iterable[AuditEvent], now: float) -> None:
        """Count events from before this process started; `now` in unix seconds."""
        for event in sorted(events, key=lambda each: each.at):
            self._count(event, max(0.0, now - event.at))

    def hold_downs(self) -> Mapping[tuple[str, str], float]:
        """Return the delay in seconds of each node and alert that flaps."""
        patience, found = self._patience(), {}
        oldest = self._monotonic() - patience.window_seconds
        for key, returns in tuple(self._returns.items()):
            while returns and returns[0] < oldest:
                returns.popleft()
            if not returns:
                del self._returns[key]
            elif seconds := patience.hold_down(len(returns)):
                found[key] = seconds
        return found

    def _count(self, event: AuditEvent, age: float) -> None:
        hold = event.hold
        # A rejected notification is no return: its alert never fired.
        provisional = hold.state is HoldState.PROVISIONAL
        if event.change is Change.LIFTED and event.by == "level" and not provisional:
            key = (hold.node, hold.alert or "")
            self._returns[key].append(self._monotonic() - age)
