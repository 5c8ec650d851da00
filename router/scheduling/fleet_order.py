"""The fleet as a fair division of its nodes needs it, kept until a new snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.capacity.ledger import Ledger
from router.capacity.throughput import expected_share
from router.model import Priority
from router.scheduling.offers import Offers
from router.scheduling.pipeline import RoutingContext
from router.scheduling.queue import Queue
from router.scheduling.residency import split

__all__ = ["KeptFleetOrder"]

_AT_SPEED = 0.8  # of the speed alone


class KeptFleetOrder:
    """Slots, and which nodes are quick.

    context: returns the current one: another object where anything changed
    """

    def __init__(
        self,
        ledger: Ledger,
        offers: Offers,
        queue: Queue,
        context: Callable[[], RoutingContext],
    ) -> None:
        self._ledger = ledger
        self._offers = offers
        self._queue = queue
        self._current = context
        self._seen: RoutingContext | None = None
        self._total = 0
        self._quickest: dict[str, Sequence[str]] = {}

    @property
    def total(self) -> int:
        """Return the slots of the nodes that are not held."""
        self._context()
        return self._total

    def slots(self, node: str) -> int:
        return self._ledger.slots(node)

    def waiting(self, principal: str) -> int:
        return sum(self._queue.held(principal, priority) for priority in Priority)

    def quickest(self, runner: str) -> Sequence[str]:
        """Return the nodes that may run it, the quickest for one stream first."""
        context = self._context()
        if runner not in self._quickest:
            self._quickest[runner] = self._offers.quickest(runner, context)
        return self._quickest[runner]

    def streams_at_speed(self, runner: str) -> int:
        """Return 2 where the quickest node runs so many nearly as fast as one."""
        share, model = expected_share(2), split(runner)[0]
        for node in self.quickest(runner):
            alone, beside = (self._ledger.speed(node, model, k) for k in (1, 2))
            if alone and beside:
                share = beside / alone
                break
        return 2 if share >= _AT_SPEED else 1

    def _context(self) -> RoutingContext:
        context = self._current()
        if context is not self._seen:
            self._seen = context
            self._quickest.clear()
            names = [n for n in context.snapshot.nodes if not context.blocking(n)]
            self._total = sum(map(self._ledger.slots, names))
        return context
