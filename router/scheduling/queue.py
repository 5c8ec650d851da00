"""The one bounded queue in front of the nodes: interactive before batch, then FIFO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from router.capacity.ledger import Lease
from router.errors import OverloadedError
from router.model import Node, Priority
from router.scheduling.pipeline import Decision, Wish


@dataclass(frozen=True, slots=True)
class Grant:
    """A slot for a request, and the decision that gave it."""

    lease: Lease
    node: Node
    decision: Decision


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for a slot; `assigned` is called when it has one."""

    wish: Wish
    priority: Priority
    assigned: Callable[[], None]
    grant: Grant | None = None


class Queue:
    """Waiters by priority and age; at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lanes: dict[Priority, dict[int, Waiter]] = {p: {} for p in Priority}
        self._wishes: dict[Priority, Counter[str]] = {p: Counter() for p in Priority}

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def length(self, priority: Priority) -> int:
        return len(self._lanes[priority])

    def ahead(self, model: str, priority: Priority) -> int:
        """Count those that are served before a newcomer and want the same model."""
        served_first = list(Priority)[: list(Priority).index(priority) + 1]
        return sum(self._wishes[each][model] for each in served_first)

    def __iter__(self) -> Iterator[Waiter]:
        """Yield waiters in the order of service; they may leave meanwhile."""
        for lane in self._lanes.values():
            yield from tuple(lane.values())

    def join(self, waiter: Waiter) -> None:
        """Raises OverloadedError when the queue is full."""
        if len(self) >= self.limit:
            raise OverloadedError(
                f"the queue is full: {self.limit} requests wait already",
                retry_after_seconds=5,
            )
        self._lanes[waiter.priority][id(waiter)] = waiter
        self._wishes[waiter.priority][waiter.wish.model] += 1

    def leave(self, waiter: Waiter) -> None:
        """Do nothing if it is gone already."""
        if self._lanes[waiter.priority].pop(id(waiter), None) is None:
            return
        wishes, model = self._wishes[waiter.priority], waiter.wish.model
        wishes[model] -= 1
        if not wishes[model]:
            del wishes[model]
