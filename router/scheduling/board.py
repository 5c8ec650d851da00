"""What the nodes of a fleet offer for one model, kept node by node as they change.

A decision over a thousand nodes must not look at each. Nodes with a free slot are kept
in the order in which they would complete a usual request; full ones in groups of about
the same speed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from math import log2
from types import MappingProxyType
from typing import NamedTuple

from router.scheduling.completion import Offer, Others
from router.snapshot import NodeView

LOOKED_AT = 32  # free nodes: the others would complete it later
_SHORT = 0.75  # of the usual length of an answer, at most
_GROUPS = 8  # of full nodes, in each doubling of their speed


@dataclass(slots=True)
class Group:
    """Full nodes of about the same speed.

    measured: whether that is known from replies
    ends:     slots that free up in a second
    """

    measured: bool = True
    ends: float = 0.0
    offers: dict[str, Offer] = field(default_factory=dict)

    @property
    def offer(self) -> Offer:
        """Return what one of them offers: it stands for all."""
        return next(iter(self.offers.values()))


@dataclass(slots=True)
class _Place:
    """Where a node's offer is kept: among the free ones, or in a group."""

    key: float
    offer: Offer
    free: bool


_NONE: Mapping[str, Offer | None] = MappingProxyType({})
_NOWHERE: Mapping[str, _Place] = MappingProxyType({})


class Nodes(NamedTuple):
    """What is decided on: free nodes and groups of full ones, the quickest first.

    others:  what is known of the model's other requests
    refused: why nodes are not taken, whatever their slots
    proving: the names of those where a request under way must be answered first
    last_resort: whether these are nodes that have failed of late
    full:    the names of those that have no free slot
    barred:  of those that may not push out what they hold; with an offer where they
             may for who can go nowhere else
    slower:  how many more have one, which are not looked at
    short_only: how many of those with a free slot are for a short answer
    places:  where each node's offer is kept
    """

    free: list[Offer]
    groups: list[Group]
    others: Others
    refused: Mapping[str, str]
    full: Iterable[str]
    barred: Mapping[str, Offer | None] = _NONE
    slower: int = 0
    proving: Iterable[str] = ()
    last_resort: bool = False
    short_only: int = 0
    places: Mapping[str, _Place] = _NOWHERE

    @property
    def any(self) -> bool:
        """Whether one of them may take a request, now or soon."""
        return any(map(any_of, (self.free, self.full, self.barred, self.proving)))

    def suited(
        self,
        avoided: frozenset[str],
        tokens: float,
        left: frozenset[str] = frozenset(),
        also: Iterable[str] = (),
    ) -> Sequence[Offer]:
        """Return the free nodes for a request of which so long an answer is expected.

        A long one is not what shows whether a node has recovered.
        """
        offers = self.open_to(avoided, left, also)
        if not self.short_only or tokens <= _SHORT * self.others.typical:
            return offers
        return [each for each in offers if not each.short_only] or offers

    def open_to(
        self,
        avoided: frozenset[str],
        left: frozenset[str] = frozenset(),
        also: Iterable[str] = (),
    ) -> Sequence[Offer]:
        """Return the free nodes for a request that is not to go to some.

        also: nodes to look at even where so many others would be quicker
        Copies that it may not use are none to it: where no other node would take it,
        now or soon, a model may go for it. What is `left` to others it waits for.
        """
        free: Sequence[Offer] = self.free
        if self.slower and also:
            free = [*free, *self._further(also)]
        if avoided:
            free = [each for each in free if each.view.node.name not in avoided]
        if left and free:
            return [each for each in free if each.view.node.name not in left]
        if free or not self.barred:
            return free
        if not all(name in avoided for name in chain(self.full, self.proving)):
            return free
        ways = (self.barred[name] for name in self.barred.keys() - avoided)
        return [offer for offer in ways if offer is not None]

    def _further(self, names: Iterable[str]) -> Iterator[Offer]:
        """Yield the offers of free nodes that are not among the quickest."""
        for name in names:
            place = self.places.get(name)
            if place is not None and place.free and place.offer not in self.free:
                yield place.offer


def any_of(names: Iterable[object]) -> bool:
    return next(iter(names), None) is not None


class Board:
    """The offers for one model."""

    def __init__(self, views: Iterable[NodeView], refused: Mapping[str, str]) -> None:
        self.views = {view.node.name: view for view in views}
        self._refused = refused
        self._failing: dict[str, str] = {}
        self._proving: dict[str, None] = {}
        self._numbers = {name: number for number, name in enumerate(self.views)}
        self._free: list[tuple[float, int, Offer]] = []
        self._groups: dict[_GroupKey, Group] = {}
        self._full: dict[str, None] = {}
        self._barred: dict[str, Offer | None] = {}
        self._places: dict[str, _Place] = {}
        self._short_only = 0

    def put(self, name: str, offer: Offer, key: float, *, free: bool) -> None:
        """Keep what a node offers now; `key`: seconds of a usual request there."""
        self._drop(name)
        self._places[name] = _Place(key, offer, free)
        if free:
            insort(self._free, (key, self._numbers[name], offer))
            self._short_only += offer.short_only
            return
        self._full[name] = None
        if offer.ends:
            place = _group(key, offer)
            group = self._groups.get(place)
            if group is None:
                group = self._groups[place] = Group(offer.measured)
            group.ends += offer.ends
            group.offers[name] = offer

    @property
    def barred(self) -> Iterable[str]:
        return tuple(self._barred)

    def bar(self, name: str, offer: Offer | None = None) -> None:
        """Keep a node that may not load the model now, or for the stranded alone."""
        self._drop(name)
        self._barred[name] = offer

    def refuse(self, name: str, reason: str) -> None:
        """Keep a node that fails what it is asked."""
        self._drop(name)
        self._failing[name] = reason

    def prove(self, name: str) -> None:
        """Keep a node that is on trial: it takes one request at a time."""
        self._drop(name)
        self._proving[name] = None

    @property
    def refused(self) -> Mapping[str, str]:
        return {**self._refused, **self._failing} if self._failing else self._refused

    def _drop(self, name: str) -> None:
        self._barred.pop(name, None)
        self._failing.pop(name, None)
        self._proving.pop(name, None)
        place = self._places.pop(name, None)
        if place is None:
            return
        if place.free:
            self._short_only -= place.offer.short_only
            del self._free[bisect_left(self._free, (place.key, self._numbers[name]))]
            return
        del self._full[name]
        if place.offer.ends:
            key = _group(place.key, place.offer)
            group = self._groups[key]
            group.ends -= place.offer.ends
            del group.offers[name]
            if not group.offers:
                del self._groups[key]

    def nodes(self, others: Others) -> Nodes:
        return Nodes(
            [offer for _, _, offer in islice(self._free, LOOKED_AT)],
            [self._groups[key] for key in sorted(self._groups)],
            others,
            self.refused,
            self._full,
            self._barred,
            max(0, len(self._free) - LOOKED_AT),
            self._proving,
            short_only=self._short_only,
            places=self._places,
        )


_GroupKey = tuple[int, bool]


def _group(key: float, offer: Offer) -> _GroupKey:
    return int(_GROUPS * log2(key)), offer.measured
