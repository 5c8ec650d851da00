"""The one bounded queue in front of the nodes: by priority, model and fair share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import count, islice, takewhile
from typing import NamedTuple

from router.capacity.ledger import Lease
from router.errors import OverloadedError
from router.model import Node, Priority
from router.scheduling.fairness import FairShares
from router.scheduling.matching import HeldBack
from router.scheduling.pipeline import Decision
from router.scheduling.request import PendingRequest


class Assignment(NamedTuple):
    """A slot for a request, and the decision that gave it."""

    lease: Lease
    node: Node
    decision: Decision


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for a slot; `assigned` is called when it has one.

    held_back:  why it waits, where a node was free when it came
    reserved:   nodes whose free slots were kept for others when it came
    cost:       node-seconds that it is expected to take
    number:     its place in the order of arrival, given by the queue
    mark:       node-seconds of its principal that wait before it, from some start on
    passed:     how often others went before it, out of the order of service
    displaced:  whether it had to leave the full queue for another principal's request
    idle_since: when it was first seen that a node had a slot for it but not its model
    """

    asking: PendingRequest
    priority: Priority
    assigned: Callable[[], None]
    held_back: HeldBack | None = None
    cost: float = 1.0
    assignment: Assignment | None = None
    number: int = 0
    mark: float = 0.0
    passed: int = 0
    displaced: bool = False
    idle_since: float | None = None
    reserved: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        return self.asking.routing.model

    @property
    def runner(self) -> str:
        return self.asking.routing.runner

    @property
    def principal(self) -> str:
        return self.asking.routing.principal

    @property
    def overdue(self) -> bool:
        """Whether it goes before all that are behind it, whatever suits the nodes."""
        return self.passed >= _MOST_PASSED

    def pass_over(self, other: Waiter) -> None:
        """Take note that another goes which is behind it in the order of service."""
        same = other.principal == self.principal
        self.passed += 1 if same else _MOST_PASSED // PASSED_BY_OTHERS


PASSED_BY_OTHERS = 4  # times, until it is its turn
_MOST_PASSED = 64  # the same by requests of its own principal

# Who is in mid-sentence is not sent away for anybody.
_DISPLACED = tuple(p for p in reversed(Priority) if p is not Priority.CONTINUED)
_Lane = dict[str, dict[int, Waiter]]  # by principal, then by number


class _Line:
    """The waiters of one priority.

    lanes: those that want the same, by runner
    """

    def __init__(self, shares: FairShares) -> None:
        self.shares = shares
        self.length = 0
        self.lanes: dict[str, _Lane] = {}
        self.waiters: _Lane = {}
        self._marks: dict[str, float] = {}

    def held(self, principal: str) -> int:
        return len(self.waiters.get(principal, ()))

    def add(self, waiter: Waiter) -> None:
        principal, lane = waiter.principal, self.lanes.setdefault(waiter.runner, {})
        if principal not in self.waiters:
            self.shares.lift(principal, self._least(lane))
            self.waiters[principal] = {}
        waiter.mark = self._marks.get(principal, 0.0)
        self._marks[principal] = waiter.mark + waiter.cost
        self.waiters[principal][waiter.number] = waiter
        lane.setdefault(principal, {})[waiter.number] = waiter
        self.length += 1

    def remove(self, waiter: Waiter) -> bool:
        principal, number = waiter.principal, waiter.number
        if self.waiters.get(principal, {}).pop(number, None) is None:
            return False
        self.length -= 1
        if not self.waiters[principal]:
            del self.waiters[principal]
            del self._marks[principal]
        lane = self.lanes[waiter.runner]
        del lane[principal][number]
        if not lane[principal]:
            del lane[principal]
            if not lane:
                del self.lanes[waiter.runner]
        return True

    def before(self, runner: str, principal: str | None) -> int:
        """Count those that are served before a newcomer and want the same."""
        lane = self.lanes.get(runner, {})
        if principal is None or (len(lane) == 1 and principal in lane):
            return sum(map(len, lane.values()))
        if principal in self.waiters:
            place = self._base(principal) + self._marks[principal]
        else:
            place = self.shares.start(principal, self._least(lane))
        return sum(self._up_to(place, each, lane[each]) for each in lane)

    def _up_to(self, place: float, principal: str, some: dict[int, Waiter]) -> int:
        left = place - self._base(principal)
        return sum(1 for _ in takewhile(lambda w: w.mark <= left, some.values()))

    def _least(self, lane: _Lane) -> float:
        return min(map(self.shares.attained, lane), default=0.0)

    def _base(self, principal: str) -> float:
        """Return what is added to a waiter's mark for its place in service."""
        first = next(iter(self.waiters[principal].values()))
        return self.shares.attained(principal) - first.mark

    def in_order(self, lane: _Lane) -> Iterator[Waiter]:
        """Yield them in the order of service; they may leave meanwhile."""
        if len(lane) == 1:
            yield from tuple(*map(dict.values, lane.values()))
            return
        bases = {principal: self._base(principal) for principal in lane}
        alike = [tuple(some.values()) for some in lane.values()]
        yield from merge(*alike, key=lambda w: (bases[w.principal] + w.mark, w.number))

    def first(self, lane: _Lane) -> tuple[float, int]:
        """Return the place of the one that is served first, and its number."""
        return min(
            (self._base(principal) + waiter.mark, waiter.number)
            for principal, some in lane.items()
            for waiter in islice(some.values(), 1)
        )


class Queue:
    """Waiters by priority, runner and fair share; at most `limit` of them.

    A runner is a model as it is to be loaded (`router.scheduling.residency`). Requests
    of one principal are served in the order of arrival; between principals the order is
    that of `router.scheduling.fairness`.

    version: another number where what is waited for is not the same any more
    """

    def __init__(self, limit: int) -> None:
        self.shares = {p: FairShares(limit) for p in Priority}
        self.limit = limit
        self._lines = {p: _Line(shares) for p, shares in self.shares.items()}
        self.version = 0
        self._numbers = count(1)
        self._length = 0

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        for shares in self.shares.values():
            shares.most = max(1, limit)

    def __len__(self) -> int:
        return self._length

    def length(self, priority: Priority) -> int:
        return self._lines[priority].length

    def held(self, principal: str, priority: Priority) -> int:
        """Count what a principal has waiting."""
        return self._lines[priority].held(principal)

    def wanted(self, runner: str) -> bool:
        """Say whether anybody waits for it."""
        return any(runner in line.lanes for line in self._lines.values())

    def ahead(
        self, runner: str, priority: Priority, principal: str | None = None
    ) -> int:
        """Count those that are served before a newcomer and want the same.

        principal: whose newcomer it is; None: one that is behind everybody
        """
        total = 0
        for each, line in self._lines.items():
            own = each is priority
            if line.length:
                total += line.before(runner, principal if own else None)
            if own:
                break
        return total

    def __iter__(self) -> Iterator[Waiter]:
        """Yield waiters in the order of service; they may leave meanwhile."""
        for line in self._lines.values():
            if line.length:
                yield from line.in_order(line.waiters)

    def runners(self, priority: Priority) -> list[str]:
        """Return what is waited for, that first whose first is to be served first."""
        line = self._lines[priority]
        if len(line.lanes) < 2:
            return list(line.lanes)
        return sorted(line.lanes, key=lambda runner: line.first(line.lanes[runner]))

    def waiting(self, priority: Priority, runner: str) -> Iterator[Waiter]:
        """Yield those that wait for it, in the order of service."""
        line = self._lines[priority]
        lane = line.lanes.get(runner)
        if lane:
            yield from line.in_order(lane)

    def line(self, waiter: Waiter) -> int:
        """Count those that are served until all of its principal's are.

        Of each principal that waits for the same, as many as of its own.
        """
        lane = self._lines[waiter.priority].lanes[waiter.runner]
        return len(lane[waiter.principal]) * len(lane)

    def newest(self, waiter: Waiter, most: int) -> list[Waiter]:
        """Return who came last of its principal's that wait for the same, and so on."""
        own = self._lines[waiter.priority].lanes[waiter.runner][waiter.principal]
        return list(islice(reversed(own.values()), most))

    def join(self, waiter: Waiter) -> None:
        """Raises OverloadedError when the queue is full.

        A full queue has room for who has fewer requests there than another: the newest
        of the one that has most leaves for it. Lower priorities leave first.
        """
        if self._length >= self._limit:
            displaced = self._to_displace(waiter)
            if displaced is None:
                raise self.full(waiter)
            self.leave(displaced)
            displaced.displaced = True
            displaced.assigned()
        waiter.number = next(self._numbers)
        line = self._lines[waiter.priority]
        if waiter.runner not in line.lanes:
            self.version += 1
        line.add(waiter)
        self._length += 1

    def _to_displace(self, waiter: Waiter) -> Waiter | None:
        for priority in _DISPLACED:
            line, own = self._lines[priority], 0
            if priority is waiter.priority:  # who leaves has more than who comes
                own = line.held(waiter.principal) + 1
            most = max(line.waiters.values(), key=len, default={})
            if len(most) > own:
                return most[next(reversed(most))]
            if priority is waiter.priority:
                break
        return None

    def full(self, waiter: Waiter) -> OverloadedError:
        """Return what a request is refused with that has no room."""
        own = sum(line.held(waiter.principal) for line in self._lines.values())
        yours = f", {own} of them from the same client" if own else ""
        return OverloadedError(
            f"the queue is full: {self._limit} requests wait already{yours}",
            retry_after_seconds=5,
        )

    def leave(self, waiter: Waiter) -> None:
        """Do nothing if it is gone already."""
        line, runner = self._lines[waiter.priority], waiter.runner
        if not line.remove(waiter):
            return
        if runner not in line.lanes:
            self.version += 1
        self._length -= 1

    def served(self, waiter: Waiter, cost: float) -> None:
        """Let a waiter go that has a slot, where it takes so many node-seconds."""
        line = self._lines[waiter.priority]
        self.leave(waiter)
        nobody = waiter.runner not in line.lanes
        reached = line.shares.attained(waiter.principal) if nobody else 0.0
        line.shares.served(cost, reached=reached)
