"""Filter → cost → pick, over one snapshot; pure but for the counts it reads.

A filter answers with nothing, or with the reason why a node is not taken: the
body of a 503 and `/admin/explain` repeat these reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from router.health.circuits import CIRCUIT
from router.model import Hold
from router.pickers import Picker
from router.scheduling.board import Nodes
from router.scheduling.completion import Expected, Offer
from router.scheduling.matching import HeldBack, Moment, held_back
from router.scheduling.request import PendingRequest, RoutingRequest, Work
from router.snapshot import LoadView, NodeView, Snapshot

__all__ = [
    "BUSY",
    "Candidate",
    "Decision",
    "DecisionReason",
    "Filter",
    "Picker",
    "RoutingContext",
    "RoutingRequest",
]

BUSY = "busy"
_BARRED = "loading the model would evict one that is in use"
_TRIED = "tried already"
_SPARED = "spared: it might end streams there, or this build would refuse it"
_RESERVED = "its free slots are head-room for other requests"
PROVING = "it has failed: a request under way there must be answered first"


class NodeHealth(Protocol):
    """What traffic has learned (`router.health.circuits.Circuits`)."""

    @property
    def troubled(self) -> frozenset[str]:
        """Nodes of which anything is to be said at all."""

    def reason(self, node: str, model: str) -> str | None:
        """Say why the model is not to be asked for there."""

    def one_at_a_time(self, node: str, model: str) -> bool:
        """Say whether a request under way there must be answered first."""


class _Well:
    """A fleet of which nothing is known."""

    troubled: frozenset[str] = frozenset()

    def reason(self, *_: str) -> str | None: ...

    def one_at_a_time(self, *_: str) -> bool:
        return False


ALL_WELL: NodeHealth = _Well()


class Offering(Protocol):
    """Says what nodes offer (`router.scheduling.offers.Offers`)."""

    def nodes(self, runner: str, context: RoutingContext) -> Nodes: ...


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What a decision looks at, taken once.

    version: of what `blocking` answers: another number where it may have changed
    last_resort: every node that could take it has failed of late: one is asked all
                 the same, as a trial
    """

    snapshot: Snapshot
    blocking: Callable[[str], tuple[Hold, ...]]
    load: LoadView
    offers: Offering
    version: int = 0
    health: NodeHealth = ALL_WELL
    last_resort: bool = False


class Candidate(NamedTuple):  # made for each node of each decision: a tuple is quick
    """A node that may take the request now; `cost` as `completion` has it, at `at`."""

    offer: Offer
    work: Work
    cost: float
    at: float
    session: str = ""

    @property
    def view(self) -> NodeView:
        return self.offer.view

    @property
    def name(self) -> str:
        return self.offer.view.node.name

    @property
    def score(self) -> float:
        return self.offer.view.score.value

    @property
    def in_flight(self) -> int:
        """Return the streams that run there, as far as is known or suspected."""
        return self.offer.streams

    @property
    def expected_seconds(self) -> float:
        """Return when the reply would be complete, were it sent there now."""
        return self.expected.completion

    @property
    def expected(self) -> Expected:
        return self.offer.expected(self.work, self.at)


class DecisionReason(StrEnum):
    """What decided where a request went."""

    TRIAL = "trial"  # every node that could take it has failed recently
    LOADS = "loads"  # the node loads the model for it
    HELD_BACK = "held_back"  # a node was free, and it waited for a quicker one
    FREED = "freed"  # no node was free when it came
    ONLY_FREE = "only_free"
    CHOSEN = "chosen"  # the policy's choice of several


class Decision(NamedTuple):
    """Who was taken and why.

    candidates: the nodes that could have been taken; of a large fleet the quickest
    refused:    why nodes are not to be taken, whatever their slots
    full:       the names of those without a free slot
    barred:     the names of those that may not evict what they hold for it now
    held_back:  why it waits or waited although there were candidates, or None
    tried:      nodes that it is not to go to any more
    spared:     nodes whose streams it might end, or that would refuse it
    proving:    the names of those that have failed and are being tried
    last_resort: whether the candidates are nodes that have failed of late
    slower:     how many more nodes have a free slot, which were not looked at
    waited:     seconds in the queue
    picker:     the name of the policy that chose
    reserved:   the names of those whose free slots were kept for other requests
    """

    picked: Candidate | None
    candidates: tuple[Candidate, ...]
    refused: Mapping[str, str] = MappingProxyType({})
    full: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()
    held_back: HeldBack | None = None
    tried: frozenset[str] = frozenset()
    slower: int = 0
    waited: float = 0.0
    spared: frozenset[str] = frozenset()
    proving: tuple[str, ...] = ()
    last_resort: bool = False
    picker: str = ""
    reserved: tuple[str, ...] = ()

    @property
    def rejected(self) -> Mapping[str, str]:
        """Return a reason for every node that was not a candidate."""
        found = {**self.refused, **dict.fromkeys(self.full, BUSY)}
        found |= dict.fromkeys(self.barred, _BARRED)
        found |= dict.fromkeys(self.proving, PROVING)
        if self.picked is None:
            found |= dict.fromkeys(self.reserved, _RESERVED)
        for names, why in ((self.spared, _SPARED), (self.tried, _TRIED)):
            found |= {name: why for name in names if name not in self.refused}
        return found

    def without_free(self) -> Decision:
        """Return the same where what is free is not for the request."""
        names = tuple(each.name for each in self.candidates)
        return self._replace(picked=None, candidates=(), held_back=None, reserved=names)

    def lost(self, asking: PendingRequest, since: float | None) -> float:
        """Return what the request loses since a node has not its model.

        In squared seconds: beside the best node that would have to load it, had that
        node had it, or from `since` on where that is when it had a slot.
        """
        cold = next((each.offer for each in self.candidates if each.offer.cold), None)
        if cold is None or self.picked is None:
            return 0.0
        warm = cold._replace(load=0.0, ready_at=0.0)
        picked = self.picked
        waited = (picked.at if since is None else since) - asking.since
        return max(0.0, picked.cost - warm.cost(asking.work, waited, 0.0, picked.at))

    @property
    def at_once(self) -> bool:
        """Whether a node that has not failed of late takes the request now."""
        return self.picked is not None and not self.last_resort

    @property
    def reason(self) -> DecisionReason:
        """Return what decided, where a node was taken: the first that holds."""
        picked = self.picked
        if self.last_resort:
            return DecisionReason.TRIAL
        if picked is not None and picked.offer.load > 0:
            return DecisionReason.LOADS
        if self.held_back is not None:
            return DecisionReason.HELD_BACK
        if self.waited > 0:
            return DecisionReason.FREED
        alone = len(self.candidates) == 1 and not self.slower
        return DecisionReason.ONLY_FREE if alone else DecisionReason.CHOSEN

    @property
    def possible(self) -> bool:
        """Whether some node takes the request, now or once it has a slot."""
        return self.picked is not None or self.busy

    @property
    def busy(self) -> bool:
        """Whether some node could take the request but for its slots."""
        return self.held_back is not None or any(
            name not in self.tried and name not in self.spared
            for name in (*self.full, *self.barred, *self.proving, *self.reserved)
        )


Filter = Callable[[NodeView, str, RoutingContext], str | None]


def held(view: NodeView, _: str, context: RoutingContext) -> str | None:
    holds = context.blocking(view.node.name)
    if holds and context.last_resort:
        holds = tuple(hold for hold in holds if hold.source != CIRCUIT)
    return "; ".join(f"{h.kind}: {h.reason}" for h in holds) if holds else None


def model_absent(view: NodeView, model: str, _: RoutingContext) -> str | None:
    """A node that was never polled may have it: it will say so itself."""
    if view.present is None or model in view.present:
        return None
    return f"model {model!r} not found"


FILTERS: tuple[Filter, ...] = (held, model_absent)


def failing(view: NodeView, model: str, context: RoutingContext) -> str | None:
    """A circuit is open, or a request under way has yet to show that it may close."""
    name, health = view.node.name, context.health
    if name not in health.troubled:
        return None
    if not context.last_resort and (reason := health.reason(name, model)):
        return reason
    return PROVING if health.one_at_a_time(name, model) else None


def filtered(
    model: str, context: RoutingContext
) -> tuple[list[NodeView], dict[str, str]]:
    """Return the nodes that may take a model, and why each other may not.

    A free slot is asked for last, so that `busy` means: but for this it would do.
    """
    refused: dict[str, str] = {}
    views: list[NodeView] = []
    for name, view in context.snapshot.nodes.items():
        for reject in FILTERS:
            reason = reject(view, model, context)
            if reason:
                refused[name] = reason
                break
        else:
            views.append(view)
    return views, refused


def decide(
    asking: PendingRequest,
    context: RoutingContext,
    picker: Picker,
    now: float,
    ahead: int = 0,
) -> Decision:
    """Choose a node for a request, with reasons; `ahead` others wait before it."""
    nodes = offered(asking.routing.runner, context)
    candidates = weighed(asking, nodes, now)
    picked = picker(candidates) if candidates else None
    if picked is None:
        return decision(asking, None, candidates, nodes)
    moment = Moment(nodes, ahead + 1, now)
    back = held_back(asking, picked.offer, picked.cost, moment)
    return decision(asking, None if back else picked, candidates, nodes, back)


def offered(runner: str, context: RoutingContext) -> Nodes:
    """Return what the nodes offer.

    Open circuits never empty the fleet: where no other node may take it, now or soon,
    those are asked.
    """
    nodes = context.offers.nodes(runner, context)
    if not context.health.troubled or nodes.any:
        return nodes
    last = context.offers.nodes(runner, replace(context, last_resort=True))
    return last._replace(last_resort=True)


def weighed(asking: PendingRequest, nodes: Nodes, now: float) -> tuple[Candidate, ...]:
    """Return the nodes with a free slot as candidates."""
    work, waited, others = asking.work, now - asking.since, nodes.others
    session, reuse = asking.routing.session, asking.reuse
    read = reuse.nodes if reuse is not None else ()
    candidates = []
    for offer in nodes.suited(asking.routing.avoided, work.tokens, asking.left, read):
        here = work if reuse is None else reuse.on(offer.view.node.name, work)
        if offer.load:
            cost = offer.cost_with_load(here, waited, now, others)
        else:
            cost = offer.cost(here, waited, others.typical, now)
        candidates.append(Candidate(offer, here, cost, now, session))
    return tuple(candidates)


def decision(
    asking: PendingRequest,
    picked: Candidate | None,
    candidates: tuple[Candidate, ...],
    nodes: Nodes,
    back: HeldBack | None = None,
) -> Decision:
    """Put on record what was decided."""
    barred = tuple(nodes.barred)
    if barred:  # but for those that who can go nowhere else may use
        usable = {each.name for each in candidates}
        barred = tuple(name for name in barred if name not in usable)
    return Decision(
        picked,
        candidates,
        nodes.refused,
        tuple(nodes.full),
        barred,
        back,
        asking.routing.tried,
        nodes.slower,
        spared=asking.routing.spared,
        proving=tuple(nodes.proving),
        last_resort=nodes.last_resort,
        picker=asking.picker,
        reserved=tuple(
            [o.view.node.name for o in nodes.free if o.view.node.name in asking.left]
        ),
    )
