"""How often a node came back from an alert of late, and how long it must wait for it.

A node that leaves and returns every minute is worse than one that is out: each time
its models are loaded again and its streams are moved. So after a few returns the
next one has to be proven for longer, twice as long each time, up to a bound.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from router.holds.record import AuditEvent, Change
from router.model import HoldState

__all__ = ["FlapPolicy", "Flapping"]

_MOST_KEPT = 64  # returns of one node and alert: far beyond any hold-down's bound


@dataclass(frozen=True, slots=True)
class FlapPolicy:
    """From how many returns on a hold stays, and how long; seconds.

    returns: within `window_seconds`, after which `first_seconds` are waited, then
             twice that for each further return, at most `longest_seconds`
    """

    returns: int
    window_seconds: float
    first_seconds: float
    longest_seconds: float

    def hold_down(self, returns: int) -> float:
        """Say how long the next return must be proven after so many."""
        if returns < self.returns:
            return 0.0
        doubled = self.first_seconds * 2.0 ** min(returns - self.returns, 30)
        return min(self.longest_seconds, doubled)


class Flapping:
    """Returns by node and alert, counted in monotonic seconds."""

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
        """Take an event of the hold store as it happens."""
        self._count(event, 0.0)

    def recall(self, events: Iterable[AuditEvent], now: float) -> None:
        """Take over what happened before this process; `now` in unix seconds."""
        for event in sorted(events, key=lambda each: each.at):
            self._count(event, max(0.0, now - event.at))

    def hold_downs(self) -> Mapping[tuple[str, str], float]:
        """Give the seconds of each node and alert that has come back too often."""
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
        # One that was refuted kept the node out for nothing, and is no return.
        provisional = hold.state is HoldState.PROVISIONAL
        if event.change is Change.LIFTED and event.by == "level" and not provisional:
            key = (hold.node, hold.alert or "")
            self._returns[key].append(self._monotonic() - age)
