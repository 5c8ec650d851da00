"""A job beside people in virtual time: the router's dispatcher, ledger and picker.

People's requests go through `Dispatcher` and its queue, bound late, by the picker
`shortest_completion`. How a job gives way to them is what is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from bench.virtual.runner import MODEL, Fleet, Tally, VirtualRunner
from router.capacity.ledger import Ledger
from router.holds.store import HoldStore
from router.model import Hold, HoldKind, Priority
from router.pickers import Policies
from router.scheduling.queue import Queue, Waiter
from router.scheduling.request import RoutingRequest, Traits
from router.scheduling.scheduler import Scheduler
from router.snapshot import Published
from simulator.virtual.clock import Clock
from simulator.virtual.node import Caching, Scaling, Spec, Stream
from simulator.virtual.workload import Ask

_WARM_UP_SECONDS = 120.0


class Way(StrEnum):
    """How a job gives way."""

    OFF = "no job"
    ITEM = "within an item"  # takes any idle slot, and keeps it until the item ends
    WAIT = "when one waits"  # the same, but taken back while a person waits
    NODE = "node by node"  # only where no person is, taken back when one comes
    APART = "begun apart"  # begun only where no person is, kept until the item ends
    ASIDE = "aside"  # taken back when one comes, but the picker sees items as load
    KEPT = "text kept"  # node by node, an item goes on from the text it had
    CACHED = "and cached"  # the same, on nodes that cache prompts as Ollama does
    AGED = "cached by age"  # the same, were the slot left longest ago taken first


_CACHING = {Way.CACHED: Caching.FIRST, Way.AGED: Caching.OLDEST}
_KEPT = {Way.KEPT, *_CACHING}
_BLIND = {Way.NODE, *_KEPT}  # as the router does it
_BY_NODE = {*_BLIND, Way.ASIDE}
_APART = {*_BY_NODE, Way.APART}


class SharingLedger(Ledger):
    """Counts items like anybody's requests, and takes none back by itself."""

    def room(self, node: str, model: str, *, item: bool = False) -> int | None:
        del item
        return super().room(node, model, item=True)

    def take_back(self, node: str) -> bool:
        del node
        return False


Changes = Mapping[tuple[str, HoldKind, str], Hold | None]


class _Forgetful:
    """A journal that restarts nothing."""

    def load(self) -> tuple[()]:
        return ()

    def save(self, changes: Callable[[], Changes]) -> Changes:
        return changes()


@dataclass(slots=True)
class Outcome:
    """What came of a run; seconds, tokens.

    gaps: for each node, how long each time was in which no person's request was there
    """

    seconds: float
    job: Tally
    replies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    gaps: dict[str, list[float]] = field(default_factory=dict)

    @property
    def idle(self) -> dict[str, float]:
        return {node: sum(gaps) for node, gaps in self.gaps.items()}


class Beside:
    """One run: people who ask, and a job that uses what they leave."""

    def __init__(
        self, specs: Sequence[Spec], scaling: Scaling, way: Way, items: Sequence[Ask]
    ) -> None:
        self.clock = clock = Clock()
        self._way = way
        ledger = Ledger if way in _BLIND else SharingLedger
        caching = _CACHING.get(way, Caching.NONE)
        self.fleet = Fleet(specs, scaling, clock, ledger, caching=caching)
        holds = HoldStore(_Forgetful())
        holds.fleet(self.fleet.nodes)
        self._dispatcher = Scheduler(
            Published(self.fleet.snapshot),
            holds,
            self.fleet.ledger,
            Queue(100_000),
            Policies(),
            clock=lambda: clock.now,
        )
        self.runner = VirtualRunner(
            self.fleet,
            items if way is not Way.OFF else (),
            may_use=self._may_use,
            quiet=lambda node: self.clock.now - self._left_at[node],
            revocable=way in {Way.WAIT, *_BY_NODE},
            text_kept=way in _KEPT,
        )
        self.people = dict.fromkeys(self.fleet.nodes, 0)
        self._left_at = dict.fromkeys(self.fleet.nodes, 0.0)
        self.outcome = Outcome(0.0, self.runner.tally)
        self.outcome.gaps = {node: [] for node in self.fleet.nodes}

    def run(self, asks: Sequence[Ask], seconds: float) -> Outcome:
        for ask in asks:
            self.clock.at(ask.at, partial(self._ask, ask))
        self.runner.tick()
        self.clock.run(until=seconds)
        for node, count in self.people.items():
            if not count:
                self.outcome.gaps[node].append(seconds - self._left_at[node])
        self.runner.settle()
        self.outcome.seconds = seconds
        return self.outcome

    def _may_use(self, node: str) -> bool:
        if len(self._dispatcher.queue):
            return False
        return self._way not in _APART or not self.people[node]

    def _ask(self, ask: Ask) -> None:
        routing = RoutingRequest(MODEL, traits=Traits(prompt_bytes=4 * ask.prompt))
        asking = self._dispatcher.estimates.asking(routing, Priority.INTERACTIVE)
        waiter = Waiter(asking, Priority.INTERACTIVE, lambda: self._begin(ask, waiter))
        self._dispatcher.queue.join(waiter)
        self._dispatcher.serve()
        if waiter.assignment is None and self._way is Way.WAIT:
            self._take_back()

    def _take_back(self) -> None:
        """End the item that was begun last, of all: it loses least."""
        leases = [
            lease
            for node in self.fleet.nodes
            for lease in self.fleet.ledger.leases(node)
            if lease.revocable
        ]
        if leases:
            max(leases, key=lambda lease: lease.taken_at).revoke()

    def _begin(self, ask: Ask, waiter: Waiter) -> None:
        assert waiter.assignment is not None
        lease = waiter.assignment.lease
        node = lease.node
        if not self.people[node]:
            self.outcome.gaps[node].append(self.clock.now - self._left_at[node])
        self.people[node] += 1
        if self._way is Way.ASIDE:
            for other in self.fleet.ledger.leases(node):
                other.revoke()
        self.fleet.run(lease, ask, lambda stream: self._ended(ask, node, stream))

    def _ended(self, ask: Ask, node: str, stream: Stream) -> None:
        now = self.clock.now
        self.people[node] -= 1
        if not self.people[node]:
            self._left_at[node] = now
        if ask.at >= _WARM_UP_SECONDS:
            self.outcome.replies.append(now - ask.at)
            self.outcome.first_tokens.append(stream.first_token_at - ask.at)
        self.runner.serve()
