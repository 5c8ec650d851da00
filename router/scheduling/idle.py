"""Slots that nobody wants just now, for the lowest-priority tenant: jobs.

Nothing in here waits: between the look and the taking nobody else comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from router.capacity.ledger import Ledger
from router.holds.store import HoldStore
from router.model import Priority
from router.scheduling.estimates import Estimates
from router.scheduling.pipeline import (
    ALL_WELL,
    Candidate,
    Decision,
    NodeHealth,
    RoutingContext,
    decide,
    failing,
    held,
    model_absent,
)
from router.scheduling.queue import Assignment, Queue
from router.scheduling.request import PendingRequest, RoutingRequest
from router.snapshot import NodeView, Published, Snapshot


@dataclass(frozen=True, slots=True)
class FleetView:
    """What the dispatcher looks at."""

    published: Published
    holds: HoldStore
    ledger: Ledger
    queue: Queue
    estimates: Estimates
    health: NodeHealth = ALL_WELL


class SpareCapacity:
    """Finds slots that no interactive request needs now."""

    def __init__(self, fleet: FleetView) -> None:
        self._fleet = fleet

    def all(self) -> Iterator[NodeView]:
        """Yield every node, whatever keeps work away from it."""
        yield from self._snapshot.nodes.values()

    def nodes(self) -> Iterator[NodeView]:
        """Yield the nodes that may get work and that nobody in the queue could use.

        A waiter that could use a node waits for one of its slots: what is free
        there by another model's count is not ours.
        """
        waiting = {(w.model, w.asking.routing.tried) for w in self._fleet.queue}
        for view in self._snapshot.nodes.values():
            context = self._context
            # What an open circuit holds is told by model: `room`.
            if held(view, "", replace(context, last_resort=True)):
                continue
            if not any(_may(view, *wanted, context) for wanted in waiting):
                yield view

    def room(self, node: str, model: str) -> bool:
        """Say whether a slot is free, or a ceiling that is not known may be tried."""
        ledger = self._fleet.ledger
        if self._fails(node, model):
            return False
        free = ledger.room(node, model, item=True) is not None
        return free or ledger.may_try_one_more(node, model)

    def take(self, view: NodeView, model: str) -> Assignment | None:
        """Take a slot of this node; None where it has none for the model."""
        name = view.node.name
        ledger = self._fleet.ledger
        if self._fails(name, model):
            return None
        streams = ledger.room(name, model, item=True)
        if streams is None and not ledger.may_try_one_more(name, model):
            return None
        seen = ledger.streams(name) if streams is None else streams
        asking = PendingRequest(RoutingRequest(model))
        offer = self._fleet.estimates.offers.offer(model, view, seen)
        picked = Candidate(offer, asking.work, 0.0, 0.0)
        take = ledger.take_one_more if streams is None else ledger.take
        lease = take(name, model)
        return Assignment(lease, view.node, Decision(picked, (picked,)))

    def decision(self, model: str) -> Decision:
        """Say of every node why it does not run the model now."""
        asking = PendingRequest(RoutingRequest(model), held=False)
        return decide(asking, self._context, lambda candidates: candidates[0], 0.0)

    def _fails(self, node: str, model: str) -> bool:
        """Say whether the model fails there, and may not fail on another node."""
        context = self._context
        view = context.snapshot.nodes.get(node)
        if view is None or node not in context.health.troubled:
            return False
        if not (held(view, model, context) or failing(view, model, context)):
            return False
        return not self.decision(model).last_resort

    @property
    def wanted(self) -> bool:
        """Whether people wait for a slot."""
        length = self._fleet.queue.length
        return any(length(each) for each in Priority if each is not Priority.BATCH)

    @property
    def _snapshot(self) -> Snapshot:
        return self._fleet.published.current

    @property
    def _context(self) -> RoutingContext:
        fleet = self._fleet
        return RoutingContext(
            fleet.published.current,
            fleet.holds.blocking,
            fleet.ledger,
            fleet.estimates.offers,
            fleet.holds.version,
            fleet.health,
        )


def _may(
    view: NodeView, model: str, tried: frozenset[str], context: RoutingContext
) -> bool:
    return view.node.name not in tried and not model_absent(view, model, context)
