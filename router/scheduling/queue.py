"""The one bounded queue in front of the nodes: by priority, by model, then FIFO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import count
from operator import attrgetter

from router.capacity.ledger import Lease
from router.errors import OverloadedError
from router.model import Node, Priority
from router.scheduling.matching import HeldBack
from router.scheduling.pipeline import Decision
from router.scheduling.request import PendingRequest


@dataclass(frozen=True, slots=True)
class Assignment:
    """A slot for a request, and the decision that gave it."""

    lease: Lease
    node: Node
    decision: Decision


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for a slot; `assigned` is called when it has one.

    held_back:  why it waits, where a node was free when it came
    number:     its place in the order of arrival, given by the queue
    idle_since: when it was first seen that a node had a slot for it but not its model
    """

    asking: PendingRequest
    priority: Priority
    assigned: Callable[[], None]
    held_back: HeldBack | None = None
    grant: Assignment | None = None
    number: int = 0
    idle_since: float | None = None

    @property
    def model(self) -> str:
        return self.asking.wish.model

    @property
    def runner(self) -> str:
        return self.asking.wish.runner


_Lane = dict[str, dict[int, Waiter]]  # by runner, then by number


class Queue:
    """Waiters by priority, runner and age; at most `limit` of them.

    A runner is a model as it is to be loaded (`router.scheduling.residency`).

    version: another number where what is waited for is not the same any more
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lanes: dict[Priority, _Lane] = {p: {} for p in Priority}
        self._lengths = dict.fromkeys(Priority, 0)
        self.version = 0
        self._numbers = count(1)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def length(self, priority: Priority) -> int:
        return self._lengths[priority]

    def wanted(self, runner: str) -> bool:
        """Say whether anybody waits for it."""
        return any(runner in lane for lane in self._lanes.values())

    def ahead(self, runner: str, priority: Priority) -> int:
        """Count those that are served before a newcomer and want the same."""
        total = 0
        for each, lane in self._lanes.items():
            if self._lengths[each]:
                total += len(lane.get(runner, ()))
            if each is priority:
                break
        return total

    def __iter__(self) -> Iterator[Waiter]:
        """Yield waiters in the order of service; they may leave meanwhile."""
        for lane in self._lanes.values():
            alike = [tuple(waiters.values()) for waiters in lane.values()]
            yield from merge(*alike, key=attrgetter("number"))

    def runners(self, priority: Priority) -> list[str]:
        """Return what is waited for, that first whose first waited longest."""
        lane = self._lanes[priority]
        if len(lane) < 2:
            return list(lane)
        return sorted(lane, key=lambda runner: next(iter(lane[runner])))

    def waiting(self, priority: Priority, runner: str) -> Iterator[Waiter]:
        """Yield those that wait for it, the oldest first."""
        yield from self._lanes[priority].get(runner, {}).values()

    def join(self, waiter: Waiter) -> None:
        """Raises OverloadedError when the queue is full."""
        if self._length >= self.limit:
            raise OverloadedError(
                f"the queue is full: {self.limit} requests wait already",
                retry_after_seconds=5,
            )
        waiter.number = next(self._numbers)
        lane = self._lanes[waiter.priority]
        if waiter.runner not in lane:
            self.version += 1
        lane.setdefault(waiter.runner, {})[waiter.number] = waiter
        self._lengths[waiter.priority] += 1
        self._length += 1

    def leave(self, waiter: Waiter) -> None:
        """Do nothing if it is gone already."""
        lane, runner = self._lanes[waiter.priority], waiter.runner
        waiters = lane.get(runner)
        if waiters is None or waiters.pop(waiter.number, None) is None:
            return
        if not waiters:
            del lane[runner]
            self.version += 1
        self._lengths[waiter.priority] -= 1
        self._length -= 1
