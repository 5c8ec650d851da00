"""A runner in virtual time: the router's policy, predictor and ledger, no database.

The decisions are the router's own code; the nodes and the loop around them are
simulated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf

from router.capacity.ledger import Lease, Ledger
from router.jobs.model import Backlog, FreeSlot, Pending, Running, StartCopy
from router.jobs.planning.in_flight import InFlightItems
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.policy import PullPolicy
from router.jobs.planning.speeds import LearnedSpeeds
from router.jobs.planning.view import PlanningContext
from router.model import Node, Outcome, Score, Timings
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot
from simulator.virtual.clock import Clock
from simulator.virtual.node import TOTALS, Caching, Scaling, Spec, Stream, VirtualNode
from simulator.virtual.passed import PassedOn
from simulator.virtual.workload import Ask

MODEL = "m:latest"
_MODELS = frozenset({MODEL})
_WINDOW = 64
HOME_SECONDS = 30.0  # as the router has it
_JOB = "job"


class Fleet:
    """The nodes, and the router's ledger over them."""

    def __init__(
        self,
        specs: Sequence[Spec],
        scaling: Scaling,
        clock: Clock,
        ledger: type[Ledger] = Ledger,
        *,
        caching: Caching = Caching.NONE,
    ) -> None:
        self.clock = clock
        totals = TOTALS[scaling]
        self.nodes = {
            spec.name: VirtualNode(spec, totals, clock, caching=caching)
            for spec in specs
        }
        self.ledger = ledger(4, lambda: clock.now)
        views = {spec.name: _view(spec) for spec in specs}
        self.snapshot = Snapshot(views, made_at=0.0)
        self.ledger.configure(view.node for view in views.values())
        self.speeds = LearnedSpeeds(
            self.ledger, lambda: self.snapshot, lambda: clock.now
        )

    def run(
        self,
        lease: Lease,
        ask: Ask,
        ended: Callable[[Stream], None],
        *,
        key: object = None,
        had: int = 0,
    ) -> Stream:
        """Send a request on a lease; the lease ends before `ended` is called.

        `had`: tokens of its answer that are there already.
        """

        def whole(stream: Stream) -> None:
            read, generated = stream.timings(self.clock.now)
            timings = Timings(ask.prompt, ask.tokens, read, generated)
            if had:  # as the router tells it
                timings = Timings(0, ask.tokens - had, 0.0, generated)
            lease.done(Outcome.END, timings)
            ended(stream)

        def first() -> None:
            lease.decoding_since = self.clock.now

        lease.streams = True
        stream = Stream(ask.prompt + had, ask.tokens - had, whole, key, first)
        node = self.nodes[lease.node]
        lease.reply = PassedOn(lambda: node.had(stream))
        node.begin(stream)
        return stream


def _view(spec: Spec) -> NodeView:
    """A node of which nothing is known but its address: every score is alike."""
    size = 4_700_000_000
    return NodeView(
        Node(spec.name, f"http://{spec.name}:11434", slots=spec.slots),
        Score(0.5),
        present={MODEL: PresentModel(MODEL, "0" * 64, size)},
        resident={MODEL: ResidentModel(MODEL, "0" * 64, size, size)},
    )


class Waiting:
    """Items of one model, in the order in which they came."""

    def __init__(self, items: Sequence[Pending], clock: Clock) -> None:
        self._clock = clock
        self._homes: deque[tuple[float, int]] = deque()
        self._newest: dict[int, Pending] = {}
        self._items = deque(items)
        self._weight = sum(item.weight for item in items)
        self._ids = {item.id for item in items}

    def __len__(self) -> int:
        return len(self._ids)

    def models(self) -> Mapping[str, Backlog]:
        return {MODEL: Backlog(len(self), self._weight)}

    def heaviest(self, _model: str) -> Sequence[Pending]:
        while self._items and self._items[0].id not in self._ids:
            self._items.popleft()
        self._forget_homes()
        first = islice(self._items, 4 * _WINDOW)
        found = [item for item in first if item.id in self._ids][:_WINDOW]
        return [self._newest.get(item.id, item) for item in found]

    def _forget_homes(self) -> None:
        while self._homes and self._homes[0][0] <= self._clock.now - HOME_SECONDS:
            _, item = self._homes.popleft()
            if item in self._newest:
                self._newest[item] = replace(self._newest[item], home="")

    def take(self, item: Pending) -> None:
        self._ids.remove(item.id)
        self._weight -= item.weight

    def put_back(self, item: Pending) -> None:
        """Let an item that was taken back for a person be the next."""
        self._newest[item.id] = item
        if item.home:
            self._homes.append((self._clock.now, item.id))
        self._ids.add(item.id)
        self._items.appendleft(item)
        self._weight += item.weight


@dataclass(slots=True)
class Tally:
    """What a job came to."""

    done: int = 0
    tokens: float = 0.0
    wasted: float = 0.0
    copies: int = 0
    revoked: int = 0
    reread: float = 0.0  # of prompts and texts, read by a node once more
    busy: dict[str, float] = field(default_factory=dict)  # seconds with items, by node


@dataclass(slots=True, eq=False)
class _Attempt:
    running: Running
    lease: Lease
    stream: Stream


class VirtualRunner:
    """Gives items to idle slots until all have their result."""

    def __init__(
        self,
        fleet: Fleet,
        asks: Sequence[Ask],
        *,
        may_use: Callable[[str], bool] | None = None,
        quiet: Callable[[str], float] | None = None,
        revocable: bool = False,
        text_kept: bool = False,
        answered: Callable[[int], Sequence[Ask]] | None = None,
        opens: Callable[[int], bool] | None = None,
    ) -> None:
        self.fleet = fleet
        self.tally = Tally()
        self.lengths = LengthPredictor()
        self.in_flight = InFlightItems()
        self.policy = PullPolicy(self.lengths)
        self._asks = list(asks)
        self._answered = answered or (lambda _: ())
        self._opens = opens or (lambda _: False)
        items = [self._item(number, ask) for number, ask in enumerate(asks)]
        self.waiting = Waiting(items, fleet.clock)
        self._items = {item.id: item for item in items}
        self._quiet = quiet or (lambda _: inf)
        self._may_use = may_use or (lambda _: True)
        self._revocable = revocable
        self._text_kept = text_kept
        self._had: dict[int, int] = {}  # tokens of text kept, by item
        self._attempts: dict[tuple[int, str], _Attempt] = {}
        self._results: set[int] = set()
        self._begun: set[int] = set()
        self._since: dict[str, float] = {}

    @property
    def over(self) -> bool:
        return self.tally.done == len(self._asks)

    def serve(self) -> None:
        """Fill what is idle, as long as the policy knows how."""
        while not self.over:
            frees = [free for name in self.fleet.nodes if (free := self._free(name))]
            clock, speeds = self.fleet.clock, self.fleet.speeds
            context = PlanningContext(self.waiting, self.in_flight, speeds, clock.now)
            found = self.policy.assign(frees, context)
            if found is None:
                return
            free, choice = found
            item = self._items[choice.item]
            copy = isinstance(choice, StartCopy)
            if not copy:
                self.waiting.take(item)
            self._begin(item, free.node, copy=copy)

    def tick(self, seconds: float = 1.0) -> None:
        """Look again from time to time, as a runner does."""
        if not self.over:
            self.serve()
            clock = self.fleet.clock
            clock.at(clock.now + seconds, lambda: self.tick(seconds))

    def _free(self, name: str) -> FreeSlot | None:
        streams = self.fleet.ledger.room(name, MODEL, item=True)
        if streams is None or not self._may_use(name):
            return None
        people = streams - len(self.in_flight.on(name))
        quiet = self._quiet(name)
        return FreeSlot(name, streams, _MODELS, _MODELS, people=people, quiet=quiet)

    def _begin(self, item: Pending, node: str, *, copy: bool) -> None:
        fleet, key = self.fleet, (item.id, node)
        running = Running(item, node, fleet.clock.now, copy)
        if not self.in_flight.on(node):
            self._since[node] = fleet.clock.now
        self.in_flight.start(running)
        self.tally.copies += copy
        lease = fleet.ledger.take(node, MODEL)
        if self._revocable:
            lease.allow_revoking(lambda: self._revoked(key))
        had = 0 if copy else self._had.get(item.id, 0)
        stream = fleet.run(
            lease,
            self._asks[item.id],
            lambda _: self._ended(key),
            key=item.id,
            had=had,
        )
        if item.id in self._begun:
            self.tally.reread += stream.unread
        self._begun.add(item.id)
        self._attempts[key] = _Attempt(running, lease, stream)

    def _ended(self, key: tuple[int, str]) -> None:
        del self._attempts[key]
        item, ask = self._items[key[0]], self._asks[key[0]]
        for other in self.in_flight.attempts(item.id):
            self._leave(item.id, other.node)
            if other.node != key[1]:
                self._stop(self._attempts.pop((item.id, other.node)))
        if item.id in self._results:
            raise AssertionError(f"item {item.id!r} has two results")
        self._results.add(item.id)
        self.lengths.learn(item, ask.tokens)
        self.tally.done += 1
        self.tally.tokens += ask.tokens
        for more in self._answered(item.id):
            self._add(more)
        self.serve()

    def _add(self, ask: Ask) -> None:
        """Let an item that came of others, a merge, be the next."""
        number = len(self._asks)
        self._asks.append(ask)
        self._items[number] = self._item(number, ask)
        self.waiting.put_back(self._items[number])

    def _item(self, number: int, ask: Ask) -> Pending:
        weight = self.lengths.predict(MODEL, ask.prompt * 4)
        opening = self._opens(number)
        return Pending(number, _JOB, MODEL, weight, ask.prompt, opening=opening)

    def _leave(self, item: int, node: str) -> None:
        self.in_flight.end(item, node)
        if not self.in_flight.on(node):
            self._was_busy(node)

    def settle(self) -> None:
        """Count the time of what is in flight when a run is over."""
        for node in self._since:
            if self.in_flight.on(node):
                self._was_busy(node)

    def _was_busy(self, node: str) -> None:
        spent = self.fleet.clock.now - self._since[node]
        self.tally.busy[node] = self.tally.busy.get(node, 0.0) + spent

    @property
    def unfinished(self) -> float:
        """Return the tokens of kept texts that are no result yet."""
        return sum(n for item, n in self._had.items() if item not in self._results)

    def _stop(self, attempt: _Attempt, outcome: Outcome = Outcome.CLIENT_GONE) -> None:
        had = self.fleet.nodes[attempt.lease.node].cancel(attempt.stream)
        if self._text_kept and outcome is Outcome.REVOKED:
            item = attempt.running.item.id
            self._had[item] = self._had.get(item, 0) + int(had)
        else:
            self.tally.wasted += had
        attempt.lease.done(outcome)

    def _revoked(self, key: tuple[int, str]) -> None:
        """A person wants the slot: the item goes back, unless its copy goes on."""
        attempt = self._attempts.pop(key)
        self.tally.revoked += 1
        self._leave(*key)
        self._stop(attempt, Outcome.REVOKED)
        if not self.in_flight.attempts(key[0]):
            item = self._items[key[0]]
            if self._text_kept:
                item = replace(item, had=self._had[item.id], home=key[1])
                self._items[item.id] = item
            self.waiting.put_back(item)


def makespan(
    specs: Sequence[Spec], scaling: Scaling, asks: Sequence[Ask]
) -> tuple[float, Tally]:
    """Run a job on an idle fleet of which nothing is known; seconds and tally."""
    clock = Clock()
    runner = VirtualRunner(Fleet(specs, scaling, clock), asks)
    runner.tick()
    clock.run(done=lambda: runner.over)
    return clock.now, runner.tally
