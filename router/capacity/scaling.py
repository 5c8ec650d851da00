"""How a node's total speed depends on its streams, S(k), learned over a fleet; pure.

A busy node shows its speed at one k only, and a slow one rarely. So what one node
shows holds for the others too, as far as they are alike (`steps`), and a few at a time
look at one stream less, or more: of a real Ollama that is short of CPU, three streams
bring more than four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import log
from typing import Any

from router.capacity.steps import Comparison, Steps

_PER_VISIT = 2.0  # replies of one visit to a k that are compared
_SEEN = 1  # replies of a node at one k before it is compared with another
_RECENT = 24  # replies of a node, before it is compared no more
_RECENT_SECONDS = 600.0
_KEPT = 8  # replies that a node's speed at one k is the mean of
_MOST_LOOKS = 4  # nodes that look at once at what nobody has shown; half at most
_LONGEST_LOOK = 16  # replies of the node
_LONGEST_LOOK_FLEET = 200  # replies of all: the node may have gone
# Replies of the fleet until what was looked at before is looked at again; twice as
# many each time where the cap was clear: a look costs what it shows.
_REST = 60
_LONGEST_REST = 10_000

# What makes nodes alike: numbers of the inventory, None where they are not given.
Kind = tuple[float | None, ...]
NO_KIND: Kind = ()


class Looks(Enum):
    """At which other number of streams a node may look."""

    NONE = "none"  # how many it runs at all is still being found
    DOWN = "down"  # while others wait
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Limits:
    """Slots of a node for a model: while requests wait, and while none does."""

    pressed: int
    idle: int


@dataclass(frozen=True, slots=True)
class Place:
    """A node that runs the model, and what it may be asked for to learn more."""

    node: str
    kind: Kind
    ceiling: int
    looks: Looks = Looks.BOTH


@dataclass(frozen=True, slots=True)
class Reply:
    """What one reply showed: tokens in seconds beside `streams` - 1 others.

    at:     when it ended, monotonic seconds
    weight: what it counts for, 0 to 1
    """

    streams: int
    tokens: float
    seconds: float
    at: float
    weight: float = 1.0

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


@dataclass(slots=True)
class _Speed:
    """What a node showed at one k, a reply's weight being its length.

    number, at: which of the node's replies was the last to show it, and when
    """

    tokens: float = 0.0
    seconds: float = 0.0
    count: float = 0.0
    number: int = 0
    at: float = 0.0

    def add(self, reply: Reply, number: int) -> None:
        kept = 1.0 if self.count < _KEPT else 1 - reply.weight / _KEPT
        self.tokens = kept * self.tokens + reply.weight * reply.tokens
        self.seconds = kept * self.seconds + reply.weight * reply.seconds
        self.count += reply.weight
        self.number, self.at = number, reply.at

    @property
    def mean(self) -> float:
        return self.tokens / self.seconds


@dataclass(slots=True)
class _Seen:
    """A node's newest replies; `fresh` of them since it came to `streams`."""

    steps: Steps
    replies: int = 0
    streams: int = 0
    fresh: float = 0.0
    speeds: dict[int, _Speed] = field(default_factory=dict)

    def recent(self, streams: int, now: float) -> _Speed | None:
        seen = self.speeds.get(streams)
        if seen is None or seen.count < _SEEN:
            return None
        old = self.replies - seen.number > _RECENT or now - seen.at > _RECENT_SECONDS
        return None if old else seen


@dataclass(slots=True)
class _Look:
    """A while at a k that load alone would never show.

    since, replies: the fleet's replies when it began, and the node's since then
    """

    target: int
    since: int
    replies: int = 0


class Shape:
    """S(k) of one model over the fleet, and the looks that are under way.

    verdicts: changes where what a step is worth was found or turned
    """

    def __init__(self) -> None:
        self.fleet = Steps()
        self.kinds: dict[Kind, Steps] = {}
        self.verdicts = 0
        self.looking: dict[str, _Look] = {}
        self._nodes: dict[str, _Seen] = {}
        self._replies = 0
        self._looked_at = 0
        self._rest = _REST

    def steps(self, node: str, kind: Kind) -> Steps:
        known = self._nodes.get(node)
        return known.steps if known else self.kinds.get(kind, self.fleet)

    def limits(self, place: Place, now: float) -> Limits:
        steps = self.steps(place.node, place.kind)
        pressed = steps.best(place.ceiling)
        idle = pressed
        if pressed < place.ceiling:
            idle = max(pressed, steps.best(place.ceiling, now))
        look = self.looking.get(place.node)
        if look:
            target = min(place.ceiling, look.target)
            idle = target if target < pressed else max(idle, target)
            pressed = min(pressed, target)
        return Limits(pressed, idle)

    def learn(self, place: Place, reply: Reply) -> None:
        """Take note of a reply that a node gave."""
        known = self._nodes.get(place.node)
        if known is None:
            above = self.kinds.setdefault(place.kind, Steps(self.fleet))
            known = self._nodes[place.node] = _Seen(Steps(above))
        known.replies += 1
        self._replies += 1
        if reply.streams != known.streams:
            known.streams, known.fresh = reply.streams, 0.0
        self._compare(known, reply)
        known.fresh += reply.weight
        known.speeds.setdefault(reply.streams, _Speed()).add(reply, known.replies)
        self._look(place, known)

    def _compare(self, known: _Seen, reply: Reply) -> None:
        weight = min(reply.weight, _PER_VISIT - known.fresh)
        for low, other in (
            (reply.streams - 1,) * 2,
            (reply.streams, reply.streams + 1),
        ):
            beside = known.recent(other, reply.at) if weight > 0 else None
            if beside:
                value = log(reply.streams * reply.speed / (other * beside.mean))
                value = value if reply.streams > other else -value
                if known.steps.seen(low).surprised(value):
                    self._rest = _REST
                seen = Comparison(low, value, weight / _PER_VISIT, reply.at)
                self.verdicts += known.steps.add(seen)

    def _look(self, place: Place, known: _Seen) -> None:
        """Begin or end a look at one stream less or more."""
        look = self.looking.get(place.node)
        if look is None:
            target = self._target(place, known)
            if target:
                self.looking[place.node] = _Look(target, self._replies)
                self._looked_at = self._replies
                self.verdicts += 1
        else:
            look.replies += 1
            shown = known.streams == look.target and known.fresh >= _PER_VISIT
            if shown or look.replies >= _LONGEST_LOOK:
                self._end_look(place.node)
        for node, each in tuple(self.looking.items()):
            if self._replies - each.since >= _LONGEST_LOOK_FLEET:
                self._end_look(node)

    def _end_look(self, node: str) -> None:
        del self.looking[node]
        self._looked_at = self._replies
        self.verdicts += 1

    def _target(self, place: Place, known: _Seen) -> int | None:
        """Return a neighbouring k that is worth a look."""
        best = known.steps.best(place.ceiling)
        seen = known.streams == best and known.speeds[best].count >= _SEEN
        if place.looks is Looks.NONE or not seen:
            return None
        below = known.steps.seen(best - 1) if best > 1 else None
        if below and not below.shown:
            most = min(_MOST_LOOKS, max(1, len(self._nodes) // 2))
            return best - 1 if len(self.looking) < most else None
        if self.looking or self._replies - self._looked_at < self._rest:
            return None
        if below and not below.clear:
            return best - 1
        if best == place.ceiling or place.looks is Looks.DOWN:
            return None
        self._rest = min(_LONGEST_REST, 2 * self._rest)
        return best + 1

    def keep(self, nodes: Mapping[str, Kind]) -> None:
        """Forget the nodes that left."""
        for node in self._nodes.keys() - nodes.keys():
            self.forget(node)

    def forget(self, node: str) -> None:
        self._nodes.pop(node, None)
        self.looking.pop(node, None)

    def kept(self, now: float) -> list[Any]:
        """Return what was compared of the fleet and of each kind, as JSON."""
        kinds = [[list(kind), each.kept(now)] for kind, each in self.kinds.items()]
        return [self.fleet.kept(now), kinds]

    @classmethod
    def recalled(cls, kept: Sequence[Any], now: float) -> Shape:
        shape = cls()
        fleet, kinds = kept
        shape.fleet.recall(fleet, now)
        for kind, each in kinds:
            steps = shape.kinds[tuple(kind)] = Steps(shape.fleet)
            steps.recall(each, now)
        return shape
