"""Slots in use and learned speeds of every node; the one place that counts them.

A slot is a lease. It ends with an outcome, once, whatever else goes wrong.
Nothing in here waits, so under gevent each method is one atomic step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from router.dispatch.stream import Timings
from router.model import Node, Outcome

_SPEED_SHARE = 0.1  # of a new reading: right again within ten replies


class Lease:
    """One slot of one node, held by one request."""

    __slots__ = ("_end", "model", "node", "taken_at")

    def __init__(
        self,
        node: str,
        model: str,
        taken_at: float,
        end: Callable[[Lease, Outcome, Timings | None], None],
    ) -> None:
        self.node = node
        self.model = model
        self.taken_at = taken_at
        self._end: Callable[[Lease, Outcome, Timings | None], None] | None = end

    def done(self, outcome: Outcome, timings: Timings | None = None) -> None:
        """Give the slot back; calls after the first do nothing."""
        end, self._end = self._end, None
        if end:
            end(self, outcome, timings)


class Ledger:
    """Counts what is in flight; a `router.snapshot.LoadView`."""

    def __init__(self, default_slots: int, clock: Callable[[], float]) -> None:
        self.default_slots = default_slots
        self._clock = clock
        self._slots: dict[str, int] = {}
        self._in_flight: Counter[str] = Counter()
        self._speeds: dict[tuple[str, str], float] = {}
        self._listeners: list[Callable[[Lease, Outcome, Timings | None], None]] = []

    def configure(self, nodes: Iterable[Node]) -> None:
        """Take over the ceilings of the inventory; leases under way go on."""
        self._slots = {n.name: n.slots or self.default_slots for n in nodes}

    def listen(
        self, callback: Callable[[Lease, Outcome, Timings | None], None]
    ) -> None:
        """Call back after each lease that ended."""
        self._listeners.append(callback)

    def slots(self, node: str) -> int:
        return self._slots.get(node, 0)

    def in_flight(self, node: str) -> int:
        return self._in_flight[node]

    def free(self, node: str) -> int:
        return self.slots(node) - self._in_flight[node]

    def speed(self, node: str, model: str) -> float | None:
        return self._speeds.get((node, model))

    def speeds(self) -> dict[tuple[str, str], float]:
        return dict(self._speeds)

    def take(self, node: str, model: str) -> Lease:
        """Reserve a slot; the caller has seen that one is free."""
        self._in_flight[node] += 1
        return Lease(node, model, self._clock(), self._ended)

    def _ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        self._in_flight[lease.node] -= 1
        if timings:
            self._learn(lease, timings)
        for callback in self._listeners:
            callback(lease, outcome, timings)

    def _learn(self, lease: Lease, timings: Timings) -> None:
        seen = timings.tokens_per_second
        if seen is None:
            return
        key = (lease.node, lease.model)
        known = self._speeds.get(key, seen)
        self._speeds[key] = known + _SPEED_SHARE * (seen - known)
