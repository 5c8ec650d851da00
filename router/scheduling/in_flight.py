"""What runs on each node, as a decision needs it: how old it is, what is being read.

The ledger counts slots. This adds, for requests that a decision sent, when they came
and until when their prompts keep the node reading: one is read after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from router.capacity.ledger import Lease
from router.scheduling.completion import Expected
from router.scheduling.request import PendingRequest, Reused


class RunningRequest(NamedTuple):
    """A request that was sent.

    reading:  seconds of prompts that were before it
    expected: of its time on the node, by who decided
    reused:   what of its prompt may have been in the node's cache
    """

    asking: PendingRequest
    reading: float
    expected: Expected | None = None
    reused: Reused | None = None


@dataclass(slots=True)
class _Node:
    count: int = 0
    arrivals: float = 0.0  # sum of the times at which they came
    read_until: float = 0.0
    sent: float = 0.0  # sum of the times at which they got their slots


_NOTHING = (0, 0.0, 0.0)


class InFlight:
    """Requests that run, by node."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._running: dict[Lease, RunningRequest] = {}

    def begin(
        self,
        lease: Lease,
        asking: PendingRequest,
        seconds: float,
        expected: Expected | None = None,
        reused: Reused | None = None,
    ) -> None:
        """Take note of a request that is sent; its prompt takes so many seconds."""
        node = self._nodes.get(lease.node)
        if node is None:
            node = self._nodes[lease.node] = _Node()
        now = lease.taken_at
        reading = max(0.0, node.read_until - now)
        node.count += 1
        node.arrivals += asking.since
        node.read_until = now + reading + seconds
        node.sent += now
        self._running[lease] = RunningRequest(asking, reading, expected, reused)

    def end(self, lease: Lease) -> RunningRequest | None:
        """Forget a request; None where no decision sent it."""
        running = self._running.pop(lease, None)
        if running is not None:
            node = self._nodes[lease.node]
            node.count -= 1
            node.arrivals -= running.asking.since
            node.sent -= lease.taken_at
            if not node.count:
                del self._nodes[lease.node]
        return running

    def on(self, node: str) -> tuple[int, float, float]:
        """Return how many run there, the sum of the times at which they came, and
        when the prompts there will have been read.
        """
        known = self._nodes.get(node)
        return (known.count, known.arrivals, known.read_until) if known else _NOTHING

    def ages(self, node: str, now: float) -> tuple[float, float]:
        """Return for how long those there waited, and have run, on the mean."""
        known = self._nodes.get(node)
        if known is None:
            return 0.0, 0.0
        sent = known.sent / known.count
        return sent - known.arrivals / known.count, now - sent
