"""Which of those that wait goes to which free node, if any; pure.

The first few that wait are looked at. Each has a node that suits it best of the free
ones; it is held back from it where a better one is expected to free up in time. Of
those that are not held back the one goes that loses least by it: a short prompt goes to
the slow node that a long one would not take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from router.scheduling.board import Nodes
from router.scheduling.completion import Offer
from router.scheduling.request import PendingRequest, Work

WINDOW = 8  # that wait and are looked at
# Who is held back takes a slot that all who wait behind have to wait for in turn, and
# those that come until the queue is empty: the wait counts so many times.
_EVERYBODYS_WAIT = 2.0
# Who is passed over waits for about so many more slots of the better nodes.
_PASSED_OVER = 3.0


class Moment(NamedTuple):
    """What a choice looks at.

    waiting: how many wait for the model, who is looked at included
    """

    nodes: Nodes
    waiting: int
    now: float


class Match(NamedTuple):
    """Who goes where, and what it costs there: the place among those that wait."""

    place: int
    offer: Offer
    cost: float


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Why a request waits although a node is free.

    free:    the node that it is held back from, and the cost there
    later:   the cost of waiting for one of the `better` nodes
    seconds: until one of them frees up for it, as expected
    """

    free: str
    cost: float
    later: float
    better: tuple[str, ...]
    seconds: float


class _Later(NamedTuple):
    """What waiting costs; `ends` of better nodes in a second, `groups` of them.

    soon: what it would cost to let a few others go first
    """

    cost: float
    ends: float
    groups: int
    soon: float


def match(
    asking: Sequence[PendingRequest],
    moment: Moment,
    lines: Sequence[int],
) -> Match | None:
    """Return the next request to send; None where all are held back, or none fits.

    lines: how many are served at most until each is, by its principal's fair share:
           who has a shorter one does not wait for all that a flood has brought
    """
    best: tuple[float, Match] | None = None
    for place, each in enumerate(asking):
        if best and lines[place] > lines[best[1].place]:
            continue
        if lines[place] != moment.waiting:
            moment = moment._replace(waiting=lines[place])
        cost, offer = _cheapest(each, moment)
        if offer is None:
            continue
        later = _later(each, offer, cost, moment)
        if later is None:
            return Match(place, offer, cost)
        loss = cost - later.soon
        if cost <= later.cost and (best is None or loss < best[0]):
            best = loss, Match(place, offer, cost)
    return None if best is None else best[1]


def longer_on_free(nodes: Nodes, work: Work) -> float:
    """Return by how many seconds the slowest free node takes longer than the best.

    Loads and guesses aside; 0 where no node is full that is better.
    """

    def seconds(offer: Offer) -> float:
        return work.prompt * offer.per_prompt_token + work.tokens * offer.per_token

    free = [seconds(each) for each in nodes.free if each.measured and not each.cold]
    full = [seconds(each.offer) for each in nodes.groups if each.measured]
    return max(0.0, max(free) - min(full)) if free and full else 0.0


def _cheapest(each: PendingRequest, moment: Moment) -> tuple[float, Offer | None]:
    """Return the least cost for a request on a free node, and that node."""
    found, least = None, 0.0
    nodes, now = moment.nodes, moment.now
    work, waited, typical = each.work, now - each.since, nodes.others.typical
    reuse = each.reuse
    read = reuse.nodes if reuse is not None else ()
    tokens = each.work.tokens
    for offer in nodes.suited(each.routing.avoided, tokens, each.left, read):
        if reuse is not None:
            work = reuse.on(offer.view.node.name, each.work)
        if offer.load:
            cost = offer.cost_with_load(work, waited, now, nodes.others)
        else:
            cost = offer.cost(work, waited, typical, now)
        if found is None or cost < least:
            found, least = offer, cost
    return least, found


def held_back(
    each: PendingRequest, free: Offer, cost: float, moment: Moment
) -> HeldBack | None:
    """Say why a request is held back from a free node; None where it is not."""
    later = _later(each, free, cost, moment)
    if later is None or later.cost >= cost:
        return None
    groups = moment.nodes.groups[: later.groups]
    names = tuple(name for group in groups for name in group.offers)
    seconds = moment.waiting / later.ends
    return HeldBack(free.view.node.name, cost, later.cost, names, seconds)


def _later(
    each: PendingRequest, free: Offer, cost: float, moment: Moment
) -> _Later | None:
    """Return what it would cost to wait for a better node; None if there is none.

    Nobody is held back beyond the time in which its first token has to be there, where
    the free node would keep to that time; nor by guesses at any node's speed,
    unless the free node would have to load the model.
    """
    if not (each.held and moment.nodes.groups and (free.measured or free.cold)):
        return None
    later = _least(each, free, cost, moment)
    if later is None or later.cost >= cost:
        return later
    if _too_late(each, free, moment.waiting / later.ends, moment.now):
        return later._replace(cost=cost)
    return later


def _least(
    each: PendingRequest, free: Offer, cost: float, moment: Moment
) -> _Later | None:
    """Return the least cost of waiting for one of the groups that are better."""
    nodes, waiting, now = moment
    work, waited, typical = each.work, now - each.since, nodes.others.typical
    tried = each.avoided
    least, ends, groups, soon = None, 0.0, 0, inf
    for group in nodes.groups:
        if not (group.measured or free.cold):
            continue  # only a load is worse than a guess
        offer = group.offer
        if offer.cost(work, waited, typical, now) >= cost:
            break
        groups += 1
        if tried and tried.issuperset(group.offers):
            continue
        ends += group.ends
        if ends <= 0:
            continue
        wait = _EVERYBODYS_WAIT * waiting / ends
        later = offer.cost(work, waited + wait, typical, now)
        if least is None or later < least:
            least = later
        soon = min(soon, offer.cost(work, waited + _PASSED_OVER / ends, typical, now))
    return None if least is None else _Later(least, ends, groups, soon)


def _too_late(each: PendingRequest, free: Offer, wait: float, now: float) -> bool:
    waited = now - each.since
    work = each.on(free.view.node.name)
    in_time = waited + free.first_token(work, now) <= each.in_time
    return in_time and waited + wait > each.in_time
