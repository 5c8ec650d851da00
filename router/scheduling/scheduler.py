"""Binds requests to nodes, late: when a slot is free, not when they arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from router.cancellation import Attention
from router.capacity.ledger import ItemsCounted, Ledger
from router.errors import (
    DeadlineError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from router.health.circuits import CIRCUIT
from router.holds.store import HoldStore
from router.model import HoldKind, Outcome, Priority
from router.scheduling.pipeline import (
    ALL_WELL,
    BUSY,
    Decision,
    NodeHealth,
    Picker,
    Scene,
    Wish,
    decide,
    model_absent,
    weigh,
)
from router.scheduling.queue import Grant, Queue, Waiter
from router.scheduling.wait_estimate import expected_wait, hopeless
from router.snapshot import LoadView, Published


class Dispatcher:
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
        picker: Picker,
        *,
        clock: Callable[[], float],
        health: NodeHealth = ALL_WELL,
    ) -> None:
        self._published = published
        self._holds = holds
        self._ledger = ledger
        self.queue = queue
        self.picker = picker
        self.health = health
        self.down_wait_seconds = 0.0
        self.look_again: Callable[[float], None] = lambda _: None
        self._clock = clock
        ledger.listen(lambda *_: self.serve())
        published.listen(self._look)
        holds.listen(self.serve)

    def explain(
        self, wish: Wish, priority: Priority = Priority.INTERACTIVE
    ) -> Decision:
        """Decide without taking: the dry run."""
        load: LoadView = self._ledger
        if priority is Priority.BATCH:
            load = ItemsCounted(self._ledger)
        scene = Scene(self._published.current, self._holds.blocking, load, self.health)
        return decide(wish, scene, self.picker)

    def _look(self) -> None:
        self._ledger.look(self._published.current)
        self.serve()

    def acquire(
        self,
        wish: Wish,
        priority: Priority,
        attention: Attention,
        deadline: float,
        *,
        patient: bool = True,
    ) -> Grant:
        """Return a slot, waiting in the queue for one.

        patient: whether it may wait for a node that is down, where all are.

        Raises NotFoundError, UnavailableError (no node may take it),
        OverloadedError (queue full), DeadlineError, StoppedError.
        """
        decision = self.explain(wish, priority)
        if not len(self.queue):
            picked = decision.picked
            if picked and self._cleared(picked.name, wish.model, priority):
                lease = self._ledger.take(picked.name, wish.model)
                return Grant(lease, picked.view.node, decision)
            if trial := self._one_more(wish, decision):
                return trial
        if not (decision.picked or decision.busy):
            if not (patient and self._any_may_return(wish, decision)):
                raise no_node(wish, decision)
            return self._await_return(wish, priority, attention, deadline)
        if decision.picked is None:
            self._refuse_hopeless(wish, priority, decision, deadline)
        return self._wait(wish, priority, attention, deadline)

    def _cleared(self, node: str, model: str, priority: Priority) -> bool:
        """Have jobs leave the node for people; False until a slot of it is free."""
        if priority is Priority.BATCH or not self._ledger.take_back(node):
            return True
        return self._ledger.room(node, model, item=True) is not None

    def _one_more(self, wish: Wish, decision: Decision) -> Grant | None:
        """Try the unknown ceiling of a node, where the request would have to wait."""
        for name, reason in decision.rejected.items():
            if reason == BUSY and self._ledger.may_try_one_more(name, wish.model):
                view = self._published.current.nodes[name]
                streams = self._ledger.streams(name)
                (picked,) = weigh([(view, streams)], wish, self._ledger)
                decided = replace(decision, picked=picked)
                lease = self._ledger.take_one_more(name, wish.model)
                return Grant(lease, view.node, decided)
        return None

    def _await_return(
        self, wish: Wish, priority: Priority, attention: Attention, deadline: float
    ) -> Grant:
        """Have the nodes that are down asked now, and wait for one of them."""
        until = min(deadline, self._clock() + self.down_wait_seconds)
        self.look_again(until - self._clock())
        try:
            return self._wait(wish, priority, attention, until)
        except DeadlineError:
            decision = self.explain(wish, priority)
            if not (decision.picked or decision.busy):
                raise no_node(wish, decision) from None
        return self._wait(wish, priority, attention, deadline)

    def _any_may_return(self, wish: Wish, decision: Decision) -> bool:
        """Say whether nothing but being down keeps some node from taking the wish."""
        if self.down_wait_seconds <= 0:
            return False
        return any(self._may_return(wish, node) for node in decision.rejected)

    def _may_return(self, wish: Wish, node: str) -> bool:
        view = self._published.current.nodes.get(node)
        if view is None or node in wish.tried:
            return False
        holds = self._holds.blocking(node)
        down = all(h.kind is HoldKind.DOWN and h.source != CIRCUIT for h in holds)
        scene = Scene(self._published.current, self._holds.blocking, self._ledger)
        return bool(holds) and down and model_absent(view, wish, scene) is None

    def _refuse_hopeless(
        self, wish: Wish, priority: Priority, decision: Decision, deadline: float
    ) -> None:
        busy = [node for node, reason in decision.rejected.items() if reason == BUSY]
        ahead = self.queue.ahead(wish.model, priority)
        wait = expected_wait(self._ledger, busy, wish.model, ahead)
        left = deadline - self._clock()
        if wait is not None and hopeless(wait, left):
            raise OverloadedError(
                f"a slot for model {wish.model!r} is expected in {wait:.0f} s,"
                f" the time limit is {left:.0f} s",
                retry_after_seconds=max(1.0, wait - left),
            )

    def _wait(
        self, wish: Wish, priority: Priority, attention: Attention, deadline: float
    ) -> Grant:
        waiter = Waiter(wish, priority, attention.nudge)
        self.queue.join(waiter)
        in_time = False
        try:
            self.serve()
            in_time = attention.until(
                lambda: waiter.grant is not None, deadline, self._clock
            )
        finally:
            self._leave(waiter)
            if waiter.grant and not in_time:
                waiter.grant.lease.done(Outcome.REFUSED)
        if not in_time or waiter.grant is None:
            raise DeadlineError(
                f"no free slot for model {wish.model!r} within the time limit"
            )
        return waiter.grant

    def _leave(self, waiter: Waiter) -> None:
        self.queue.leave(waiter)
        self._ledger.pressed = len(self.queue) > 0

    def serve(self) -> None:
        """Give what is free to those who wait, in their order; never waits itself."""
        self._ledger.pressed = len(self.queue) > 0
        stuck: set[Wish] = set()
        for waiter in self.queue:
            if waiter.wish in stuck:
                continue
            decision = self.explain(waiter.wish, waiter.priority)
            picked = decision.picked
            if picked is None or not self._cleared(
                picked.name, waiter.wish.model, waiter.priority
            ):
                stuck.add(waiter.wish)
                continue
            if waiter.grant:
                continue  # what was taken back ended at once, and gave it a slot
            self._leave(waiter)
            lease = self._ledger.take(picked.name, waiter.wish.model)
            waiter.grant = Grant(lease, picked.view.node, decision)
            waiter.assigned()


def no_node(wish: Wish, decision: Decision) -> NotFoundError | UnavailableError:
    """Say why nobody takes the request; the client hears every node's reason."""
    reasons = decision.rejected
    absent = [r for r in reasons.values() if r.startswith("model ")]
    if reasons and len(absent) == len(reasons):
        return NotFoundError(f"model {wish.model.removesuffix(':latest')!r} not found")
    told = "; ".join(f"{node}: {reason}" for node, reason in reasons.items())
    return UnavailableError(
        f"no node may take model {wish.model!r}: {told or 'the inventory is empty'}",
        retry_after_seconds=5,
    )
