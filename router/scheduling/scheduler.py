"""Binds requests to nodes, late: when a slot is free, not when they arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from router.capacity.ledger import ItemsCounted, Lease, Ledger, Rescue
from router.errors import (
    DeadlineError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from router.health.circuits import CIRCUIT
from router.holds.store import HoldStore
from router.model import HoldKind, Outcome, Priority, Timings
from router.pickers import Policies
from router.runtime.cancellation import Cancellation
from router.scheduling.board import Nodes
from router.scheduling.completion import Offer
from router.scheduling.estimates import Estimates
from router.scheduling.fairness import TypicalNode
from router.scheduling.fleet_order import KeptFleetOrder
from router.scheduling.head_room import HeadRoom
from router.scheduling.matching import WINDOW, Match, Moment, longer_on_free, match
from router.scheduling.neighbours import Left, Neighbours
from router.scheduling.newcomers import LATE_SECONDS, Newcomers, in_time, pays_off
from router.scheduling.pipeline import (
    ALL_WELL,
    Candidate,
    Decision,
    NodeHealth,
    RoutingContext,
    decide,
    decision,
    model_absent,
    offered,
    weighed,
)
from router.scheduling.queue import Assignment, Queue, Waiter
from router.scheduling.request import PendingRequest, RoutingRequest
from router.scheduling.residency import split
from router.scheduling.wait_estimate import expected_wait, hopeless
from router.snapshot import LoadView, Published

# What a node failed at is no service, and is charged to nobody.
_CHARGED = frozenset({Outcome.END, Outcome.CLIENT_GONE, Outcome.DEADLINE})


_NONE: frozenset[str] = frozenset()


class Scheduler:
    """Gives out slots; the queue holds what no node can take now.

    down_wait_seconds: how long a request waits for a node to come back, where all that
                       could take it are down
    look_again: has the nodes that are down asked at once
    """

    def __init__(
        self,
        published: Published,
        holds: HoldStore,
        ledger: Ledger,
        queue: Queue,
        policies: Policies,
        *,
        clock: Callable[[], float],
        estimates: Estimates | None = None,
        health: NodeHealth = ALL_WELL,
    ) -> None:
        self._published = published
        self._holds = holds
        self._ledger = ledger
        self.queue = queue
        self.policies = policies
        self.health = health
        self.down_wait_seconds = 0.0
        self.head_room = HeadRoom()
        self.neighbours = Neighbours()
        self.newcomers = Newcomers()
        self._contexts: dict[Priority, RoutingContext] = {}
        self.look_again: Callable[[float], None] = lambda _: None
        self._clock = clock
        self._typical = TypicalNode()
        self.estimates = estimates or Estimates(ledger, clock)
        self._fleet = KeptFleetOrder(
            ledger,
            self.estimates.offers,
            queue,
            lambda: self._context(Priority.INTERACTIVE),
        )
        self.estimates.offers.evictions.waiting = queue
        self.estimates.look(published.current)
        ledger.listen(self._ended)
        published.listen(self._look)
        holds.listen(self.serve)

    def explain(
        self, routing: RoutingRequest, priority: Priority = Priority.INTERACTIVE
    ) -> Decision:
        """Decide without taking: the dry run."""
        return self._decide(self._asking(routing, priority), priority)

    def _asking(self, routing: RoutingRequest, priority: Priority) -> PendingRequest:
        name = self.policies.name(routing.model, routing.picker)
        holds_back = self.policies.of(name).holds_back
        return self.estimates.asking(routing, priority, name, holds_back=holds_back)

    def _decide(self, asking: PendingRequest, priority: Priority) -> Decision:
        routing = asking.routing
        left = self._given_up(routing, priority)
        if left != asking.left:
            asking = asking._replace(left=left)
        ahead = self.queue.ahead(routing.runner, priority, routing.principal)
        pick, now = self.policies.of(asking.picker).pick, self._clock()
        decided = decide(asking, self._context(priority), pick, now, ahead)
        return decided.without_free() if self._kept_out(priority) else decided

    def _kept_out(self, priority: Priority) -> bool:
        """Say whether what is free is kept for interactive requests."""
        return self.head_room.keeps_out(
            priority, self.queue.shares, lambda: self._fleet.total
        )

    def _left(self, routing: RoutingRequest, priority: Priority, more: int) -> Left:
        """Return what a principal leaves to others, were it to ask for more."""
        principal = routing.principal
        if priority is Priority.CONTINUED:
            return Left()
        if priority is Priority.BATCH and not self.queue.shares[priority].running:
            return Left()  # one of them runs whatever else does
        waiting = self.queue.held(principal, priority) + more
        return self.neighbours.left(
            principal, routing.runner, waiting, self._fleet, self._clock()
        )

    def _given_up(self, routing: RoutingRequest, priority: Priority) -> frozenset[str]:
        """Name the nodes that a newcomer leaves to others."""
        left = self._left(routing, priority, 1)
        if not left.nodes:
            return left.nodes
        nodes = offered(routing.runner, self._context(priority))
        return _given_up(left, nodes, routing.avoided)

    def refused(self, principal: str) -> None:
        """Take note of a request that a limit kept from asking for a slot."""
        self.neighbours.refused(principal, self._clock())

    def _context(self, priority: Priority) -> RoutingContext:
        kept = self._contexts.get(priority)
        if kept is None or not self._is_current(kept):
            kept = self._contexts[priority] = self._new_context(priority)
        return kept

    def _is_current(self, context: RoutingContext) -> bool:
        return (
            context.snapshot is self._published.current
            and context.version == self._holds.version
            and context.health is self.health
        )

    def _new_context(self, priority: Priority) -> RoutingContext:
        load: LoadView = self._ledger
        if priority is Priority.BATCH:
            load = ItemsCounted(self._ledger)
        elif priority is Priority.CONTINUED:
            load = Rescue(self._ledger)
        return RoutingContext(
            self._published.current,
            self._holds.blocking,
            load,
            self.estimates.offers,
            self._holds.version,
            self.health,
        )

    def _look(self) -> None:
        self._ledger.look(self._published.current)
        self.estimates.look(self._published.current)
        self.serve()

    def _ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        self.estimates.ended(lease, outcome, timings)
        now = self._clock()
        ran = now - lease.taken_at if outcome in _CHARGED else 0.0
        self.neighbours.ended(lease, now)
        self.newcomers.ended(lease, now, complete=outcome is Outcome.END)
        contended = len(self.queue) > 0
        for shares in self.queue.shares.values():
            shares.ended(lease, ran, contended=contended)
        self.serve()

    def acquire(
        self,
        routing: RoutingRequest,
        priority: Priority,
        cancellation: Cancellation,
        deadline: float,
        *,
        patient: bool = True,
    ) -> Assignment:
        """Return a slot, waiting in the queue for one.

        patient: whether it may wait for a node that is down, where all are.

        Raises NotFoundError, UnavailableError (no node may take it),
        OverloadedError (queue full), DeadlineError, StoppedError.
        """
        asking = self._asking(routing, priority)
        self.estimates.demand.came(routing.runner, asking.since)
        decided = self._decide(asking, priority)
        if not len(self.queue):
            picked = decided.picked
            if picked and self._cleared(picked.name, routing.model, priority):
                assignment = self._take(asking, picked, decided)
                self._charge(assignment, asking, priority)
                return assignment
            if trial := self._one_more(asking, priority, decided):
                self._charge(trial, asking, priority)
                return trial
        cost = self._typical.node_seconds(routing.model, asking.work)
        waiter = Waiter(asking, priority, cancellation.wake, decided.held_back, cost)
        waiter.reserved = decided.reserved
        if not decided.possible:
            if not (patient and self._any_may_return(routing, decided)):
                raise no_node(routing, decided)
            return self._await_return(waiter, cancellation, deadline)
        deadline = min(deadline, self._slot_by(asking, priority))
        if decided.picked is None:
            self._refuse_hopeless(routing, priority, decided, deadline)
        return self._wait(waiter, cancellation, deadline)

    def _slot_by(self, asking: PendingRequest, priority: Priority) -> float:
        """Return when a slot would be too late for the first token."""
        by = asking.routing.first_token_by
        if by == inf:
            return by
        nodes = offered(asking.routing.runner, self._context(priority))
        offers = [*nodes.free, *(group.offer for group in nodes.groups)]
        quickest = min((offer.per_prompt_token for offer in offers), default=0.0)
        return by - asking.work.prompt * quickest

    def _take(
        self,
        asking: PendingRequest,
        picked: Candidate,
        decided: Decision,
        idle_since: float | None = None,
    ) -> Assignment:
        lease = self._ledger.take(picked.name, asking.routing.model)
        self.estimates.began(lease, asking, decided, idle_since)
        return Assignment(lease, picked.view.node, decided)

    def _charge(
        self,
        assignment: Assignment,
        asking: PendingRequest,
        priority: Priority,
        waiter: Waiter | None = None,
    ) -> None:
        """Count a slot for its principal; `waiter` leaves the queue for it."""
        picked = assignment.decision.picked
        assert picked is not None  # noqa: S101 - a slot is some node's
        model = asking.routing.model
        cost = self._typical.node_seconds(model, asking.work)
        principal, shares = asking.routing.principal, self.queue.shares[priority]
        lease, now = assignment.lease, self._clock()
        if waiter is None:
            shares.lift(principal, 0.0)
        else:
            self.queue.served(waiter, cost)
            self._ledger.press(pressed=len(self.queue) > 0)
        self._typical.learn(model, picked.offer)
        shares.charge(lease, principal, cost, picked.expected_seconds)
        runner = asking.routing.runner
        self.neighbours.began(lease, principal, lease.node, runner, now)
        if priority is Priority.INTERACTIVE:
            self.newcomers.began(lease, asking, now)

    def _cleared(self, node: str, model: str, priority: Priority) -> bool:
        """Have jobs leave the node for people; False until a slot of it is free."""
        if priority is Priority.BATCH or not self._ledger.take_back(node):
            return True
        return self._ledger.room(node, model, item=True) is not None

    def _one_more(
        self, asking: PendingRequest, priority: Priority, decided: Decision
    ) -> Assignment | None:
        """Try the unknown ceiling of a node, where the request would have to wait."""
        if priority is Priority.CONTINUED:
            return None  # its first token comes late for reasons of its own
        if self._kept_out(priority):
            return None
        routing, model = asking.routing, asking.routing.model
        avoided = routing.avoided | self._given_up(routing, priority)
        for name in decided.full:
            if name not in avoided and self._ledger.may_try_one_more(name, model):
                view = self._published.current.nodes[name]
                streams = self._ledger.streams(name)
                offer = self.estimates.offers.offer(model, view, streams)
                picked = Candidate(offer, asking.on(name), 0.0, self._clock())
                lease = self._ledger.take_one_more(name, model)
                decided = decided._replace(picked=picked)
                self.estimates.began(lease, asking, decided)
                return Assignment(lease, view.node, decided)
        return None

    def _await_return(
        self, waiter: Waiter, cancellation: Cancellation, deadline: float
    ) -> Assignment:
        """Have the nodes that are down asked now, and wait for one of them."""
        until = min(deadline, self._clock() + self.down_wait_seconds)
        self.look_again(until - self._clock())
        try:
            return self._wait(waiter, cancellation, until)
        except DeadlineError:
            decided = self._decide(waiter.asking, waiter.priority)
            if not decided.possible:
                raise no_node(waiter.asking.routing, decided) from None
        return self._wait(waiter, cancellation, deadline)

    def _any_may_return(self, routing: RoutingRequest, decided: Decision) -> bool:
        """Say whether nothing but being down keeps a node from the request."""
        if self.down_wait_seconds <= 0:
            return False
        return any(self._may_return(routing, node) for node in decided.rejected)

    def _may_return(self, routing: RoutingRequest, node: str) -> bool:
        view = self._published.current.nodes.get(node)
        if view is None or node in routing.tried:
            return False
        holds = self._holds.blocking(node)
        down = all(h.kind is HoldKind.DOWN and h.source != CIRCUIT for h in holds)
        absent = model_absent(view, routing.model, self._context(Priority.INTERACTIVE))
        return bool(holds) and down and absent is None

    def _refuse_hopeless(
        self,
        routing: RoutingRequest,
        priority: Priority,
        decided: Decision,
        deadline: float,
    ) -> None:
        ahead = self.queue.ahead(routing.runner, priority, routing.principal)
        nodes = (*decided.full, *decided.barred)
        wait = expected_wait(self._ledger, nodes, routing.model, ahead)
        left = deadline - self._clock()
        if wait is not None and hopeless(wait, left):
            raise OverloadedError(
                f"a slot for model {routing.model!r} is expected in {wait:.0f} s,"
                f" the time limit is {left:.0f} s",
                retry_after_seconds=max(1.0, wait - left),
            )

    def _wait(
        self, waiter: Waiter, cancellation: Cancellation, deadline: float
    ) -> Assignment:
        self.queue.join(waiter)
        in_time = False
        try:
            self.serve()
            in_time = cancellation.until(
                lambda: waiter.assignment is not None or waiter.displaced,
                deadline,
                self._clock,
            )
        finally:
            self._leave(waiter)
            if waiter.assignment and not in_time:
                waiter.assignment.lease.done(Outcome.REFUSED)
        if waiter.displaced:
            raise self.queue.full(waiter)
        if not in_time or waiter.assignment is None:
            raise _too_late(waiter.asking)
        return waiter.assignment

    def _leave(self, waiter: Waiter) -> None:
        self.queue.leave(waiter)
        self._ledger.press(pressed=len(self.queue) > 0)

    # The queue

    def serve(self) -> None:
        """Give what is free to those who wait, in fair order; never waits itself."""
        self._ledger.press(pressed=len(self.queue) > 0)
        if self.queue.length(Priority.BATCH):
            self._serve_batch()
        while not self._serve_all():
            pass
        if self._ledger.learns_ceilings and len(self.queue):
            self._try_ceilings()

    def _serve_batch(self) -> None:
        """Give a slot to the first batch request, where it has waited for too long."""
        batch = Priority.BATCH
        runner = self.queue.runners(batch)[0]
        first = next(self.queue.waiting(batch, runner))
        waited = self._clock() - first.asking.since
        if self.head_room.is_due(waited, self.queue.shares[batch].running):
            self._serve_one(runner, batch, offered(runner, self._context(batch)))

    def _try_ceilings(self) -> None:
        """Let the newest of those who wait try for a slot that nobody knows of.

        Had it to wait in vain, it would have waited longest here as well.
        """
        in_vain: set[str] = set()
        for waiter in reversed(tuple(self.queue)):
            if waiter.runner in in_vain or waiter.assignment is not None:
                continue
            decided = self._decide(waiter.asking, waiter.priority)
            assignment = self._one_more(waiter.asking, waiter.priority, decided)
            if assignment is None:
                in_vain.add(waiter.runner)
                continue
            self._charge(assignment, waiter.asking, waiter.priority, waiter)
            waiter.assignment = assignment
            waiter.assigned()

    def _serve_all(self) -> bool:
        """Serve all priorities; False where that has to begin again.

        A model that is waited for may not be evicted: once nobody waits for it any
        more, those of higher priority that wanted its place come first.
        """
        turn = _Turn(self.queue.version)
        return all(self._serve(p, turn) for p in Priority if self.queue.length(p))

    def _serve(self, priority: Priority, turn: _Turn) -> bool:
        """Serve what is waited for in the order in which the first of each came."""
        stuck: set[str] = set()
        while True:
            runners = self.queue.runners(priority)
            runner = next((r for r in runners if r not in stuck), None)
            if runner is None or self._kept_out(priority):
                return True
            nodes = offered(runner, self._context(priority))
            if self._serve_one(runner, priority, _under(turn.caps, nodes)):
                if turn.barred and turn.version != self.queue.version:
                    return False
                continue
            stuck.add(runner)
            turn.barred = turn.barred or any(nodes.barred)
            if len(self.queue) > len(stuck):
                self._cap(turn.caps, runner, nodes)

    def _cap(self, caps: dict[str, int], runner: str, nodes: Nodes) -> None:
        """Keep others from slots that those who wait longer may not use themselves."""
        model = split(runner)[0]
        for name in nodes.full:
            limit = self._ledger.limit(name, model)
            caps[name] = min(limit, caps.get(name, limit))

    def _serve_one(self, runner: str, priority: Priority, nodes: Nodes) -> bool:
        """Give a slot to one of those that wait; False where nobody has one."""
        if not (nodes.free or nodes.barred):
            return False
        found = self._match(runner, priority, nodes)
        if found is None:
            return False
        waiter, picked = found
        if not self._cleared(picked.name, waiter.model, priority):
            return False
        if waiter.assignment is None:  # else what was taken back ended at once
            candidates = weighed(waiter.asking, nodes, picked.at)
            decided = decision(
                waiter.asking, picked, candidates, nodes, waiter.held_back
            )
            waited = picked.at - waiter.asking.since
            decided = decided._replace(waited=waited, reserved=waiter.reserved)
            since = waiter.idle_since
            assignment = self._take(waiter.asking, picked, decided, since)
            self._charge(assignment, waiter.asking, priority, waiter)
            waiter.assignment = assignment
            waiter.assigned()
        return True

    def _match(
        self, runner: str, priority: Priority, nodes: Nodes
    ) -> tuple[Waiter, Candidate] | None:
        """Choose among the first that wait, and the free nodes."""
        now = self._clock()
        some = list(_window(self._able(runner, priority, nodes)))
        if any(offer.cold for offer in nodes.free):
            for waiter in some:
                waiter.idle_since = waiter.idle_since or now
        waiting = self.queue.ahead(runner, priority)
        moment = Moment(nodes, waiting, now)
        some, found = self._choose(some, priority, moment)
        if found is None:
            return None
        waiter = some[found.place]
        for each in some[: found.place]:
            each.pass_over(waiter)
        policy = self.policies.of(waiter.asking.picker)
        if not policy.holds_back:
            return waiter, policy.pick(weighed(waiter.asking, nodes, now))
        work = waiter.asking.on(found.offer.view.node.name)
        return waiter, Candidate(found.offer, work, found.cost, now)

    def _match_of(self, some: Sequence[Waiter], moment: Moment) -> Match | None:
        lines = [min(moment.waiting, self.queue.line(each)) for each in some]
        return match([each.asking for each in some], moment, lines)

    def _choose(
        self, some: list[Waiter], priority: Priority, moment: Moment
    ) -> tuple[list[Waiter], Match | None]:
        """Return those of whom one is matched, and who goes where."""
        first = next((each for each in some if each.overdue), None)
        if first is not None and (found := self._match_of([first], moment)):
            return [first], found
        newest = self._newest(some, priority, moment)
        if first is None and newest:
            if found := self._in_turn(newest[0], moment):
                some[0].pass_over(newest[0])
                return newest[:1], found
            oldest = some[0].asking
            longer = longer_on_free(moment.nodes, oldest.work)
            if pays_off(moment.now - oldest.since, longer):
                some = [*some, *(each for each in newest if each not in some)]
        return some, self._match_of(some, moment)

    def _newest(
        self, some: list[Waiter], priority: Priority, moment: Moment
    ) -> list[Waiter]:
        """Return who came last of its principal's that is next; none in good time."""
        if not some or priority is not Priority.INTERACTIVE:
            return []
        oldest = some[0].asking
        if moment.now - oldest.since < LATE_SECONDS or not oldest.held:
            return []  # by a policy that does not hold back all stand in line
        left, newest = self._left(oldest.routing, priority, 0), []
        for each in self.queue.newest(some[0], WINDOW):
            asking, avoided = each.asking, each.asking.routing.avoided
            given_up = _given_up(left, moment.nodes, avoided)
            if given_up != asking.left:
                each.asking = asking._replace(left=given_up)
            if asking.held and moment.nodes.open_to(avoided, given_up):
                newest.append(each)
        return newest

    def _in_turn(self, newest: Waiter, moment: Moment) -> Match | None:
        """Match who came last, where its turn has come and it would be quick."""
        runner, principal = newest.runner, newest.principal
        if not self.newcomers.due(runner, principal):
            return None
        found = self._match_of([newest], moment)
        if found is None or not in_time(newest.asking, found.offer, moment.now):
            return None
        self.newcomers.took(runner, principal)
        return found

    def _able(self, runner: str, priority: Priority, nodes: Nodes) -> Iterator[Waiter]:
        """Yield those that wait and did not try all the free nodes already.

        Of a principal that leaves nodes to others at most a window: who may use those
        is looked at as well, however long its line.
        """
        known: dict[str, Left] = {}
        seen: Counter[str] = Counter()
        shut: set[str] = set()  # principals that leave all these to others
        for waiter in self.queue.waiting(priority, runner):
            principal, asking = waiter.principal, waiter.asking
            avoided = asking.routing.avoided
            if principal not in known:
                left = known[principal] = self._left(asking.routing, priority, 0)
                if left.nodes and left.waits and not nodes.open_to(_NONE, left.nodes):
                    shut.add(principal)
            if principal in shut and not avoided:
                continue
            given_up = _given_up(known[principal], nodes, avoided)
            if given_up != asking.left:
                asking = waiter.asking = asking._replace(left=given_up)
            if not nodes.open_to(avoided, given_up):
                continue
            if given_up:
                seen[principal] += 1
                if seen[principal] >= WINDOW:
                    shut.add(principal)
            yield waiter


def _window(waiters: Iterator[Waiter]) -> Iterator[Waiter]:
    """Yield the first that wait; those that leave nodes to others come on top."""
    count = 0
    for waiter in waiters:
        yield waiter
        count += not waiter.asking.left
        if count == WINDOW:
            return


def _given_up(left: Left, nodes: Nodes, avoided: frozenset[str]) -> frozenset[str]:
    """Name the nodes that a request leaves to others, by what else it could use.

    None where it does not wait, or would wait for a node that it is not to go to.
    """
    if not left.nodes or (left.waits and not avoided):
        return left.nodes
    if nodes.open_to(avoided, left.nodes):
        return left.nodes
    if left.waits and any(n not in avoided and n not in left.nodes for n in nodes.full):
        return left.nodes
    return _NONE


@dataclass(slots=True)
class _Turn:
    """What is known while those that wait are served.

    version: of the queue at first
    caps:    streams that a node may have for others, so that those who wait for a model
             that uses fewer of its slots have their turn there
    barred:  whether a model that is waited for kept a node from anybody
    """

    version: int
    caps: dict[str, int] = field(default_factory=dict)
    barred: bool = False


def _under(caps: dict[str, int], nodes: Nodes) -> Nodes:
    """Leave out the free nodes that run as many streams as others may have there."""
    if not caps:
        return nodes
    free: list[Offer] = []
    full = list(nodes.full)
    for offer in nodes.free:
        name = offer.view.node.name
        if offer.streams < caps.get(name, 1 << 30):
            free.append(offer)
        else:
            full.append(name)
    return nodes._replace(free=free, full=full)


def _too_late(asking: PendingRequest) -> OverloadedError | DeadlineError:
    model = asking.routing.model
    if asking.routing.first_token_by < inf:
        return OverloadedError(
            f"no free slot for model {model!r} in time for a first token within"
            f" {asking.in_time:g} s",
            retry_after_seconds=max(1.0, asking.in_time),
        )
    return DeadlineError(f"no free slot for model {model!r} within the time limit")


def no_node(
    routing: RoutingRequest, decided: Decision
) -> NotFoundError | UnavailableError:
    """Say why nobody takes the request; the client hears every node's reason."""
    reasons = decided.rejected
    absent = [r for r in reasons.values() if r.startswith("model ")]
    if reasons and len(absent) == len(reasons):
        return NotFoundError(
            f"model {routing.model.removesuffix(':latest')!r} not found"
        )
    why = "; ".join(f"{node}: {reason}" for node, reason in reasons.items())
    return UnavailableError(
        f"no node may take model {routing.model!r}: {why or 'the inventory is empty'}",
        retry_after_seconds=5,
    )
