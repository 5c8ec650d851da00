"""Which node has read how a prompt begins, and whether it still has it; pure.

A node keeps what a slot read until another request uses the slot. Which slot that is
differs by version, so the chance is learned from replies, by how many requests the node
got in between: a prompt that is found in the cache takes less time than it would.
Beliefs are bounded, and forgotten in the order in which they were used last.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

from router.scheduling.request import Reused, Work
from router.text.prompt_prefixes import PromptPrefixes

_MOST_PREFIXES = 32_768  # at 350 bytes
_MOST_NODES = 16_384  # with a model each, at 600 bytes
_MOST_COPIES = 8  # nodes that are known to have read the same beginning
_LOADED = 1 << 20  # a load empties the cache, as so many requests would
_SPANS = 10  # of requests in between: 0, 1, 2 to 3, 4 to 7, … 256 and more
_KEPT = 0.95  # of what was known, at each new reply: the last twenty count
_PRIOR_WORTH = 2.0
_FLEET_WORTH = 4.0


class _Rates:
    """Hits by requests in between."""

    __slots__ = ("hits", "weights")

    def __init__(self) -> None:
        self.hits = array("f", bytes(4 * _SPANS))
        self.weights = array("f", bytes(4 * _SPANS))

    def learn(self, span: int, hit: float) -> None:
        self.hits[span] = self.hits[span] * _KEPT + hit
        self.weights[span] = self.weights[span] * _KEPT + 1

    def of(self, span: int, wider: float, worth: float) -> float:
        return (worth * wider + self.hits[span]) / (worth + self.weights[span])


class _Node:
    """A node's cache for one model: how many requests it got, and hits."""

    __slots__ = ("begun", "rates")

    def __init__(self) -> None:
        self.begun = 0
        self.rates = _Rates()


class _Copy(NamedTuple):
    """A node that has read a beginning, and how many requests it had got then."""

    node: str
    begun: int


class PromptCaches:
    """What is believed of the caches of all nodes."""

    def __init__(self) -> None:
        self._copies: OrderedDict[int, tuple[_Copy, ...]] = OrderedDict()
        self._nodes: OrderedDict[tuple[str, str], _Node] = OrderedDict()
        self._fleet: OrderedDict[str, _Rates] = OrderedDict()

    def look_up(self, runner: str, prefixes: PromptPrefixes) -> PromptReuse | None:
        """Return what nodes have read of a prompt; None where nobody has."""
        found: dict[str, list[tuple[float, int]]] = {}
        if not prefixes.known:
            return None
        mixed, copies = hash(runner), self._copies
        for digest, share in prefixes.known:
            for copy in copies.get(mixed ^ digest, ()):
                found.setdefault(copy.node, []).append((share, copy.begun))
        return PromptReuse(self, runner, found) if found else None

    def began(self, node: str, runner: str, *, loads: bool) -> None:
        """Count a request that was sent."""
        self._node(node, runner).begun += _LOADED if loads else 1

    def read(self, node: str, runner: str, prefixes: PromptPrefixes) -> None:
        """Take note of a prompt that was read and is not being answered any more."""
        begun = self._node(node, runner).begun
        for digest in prefixes.kept:
            key = hash(runner) ^ digest
            before = self._copies.get(key, ())
            others = (copy for copy in before if copy.node != node)
            copies = (_Copy(node, begun), *others)
            self._copies[key] = copies[:_MOST_COPIES]
            self._copies.move_to_end(key)
        while len(self._copies) > _MOST_PREFIXES:
            self._copies.popitem(last=False)

    def begun(self, node: str, runner: str) -> int:
        """Return how many requests it got; -1 where that is not known any more."""
        known = self._nodes.get((node, runner))
        return known.begun if known is not None else -1

    def chance(self, node: str, runner: str, between: int) -> float:
        """Return the share of what was read that is still there.

        Until replies tell, half as much as with half as many requests in between.
        """
        span = min(_SPANS - 1, between.bit_length())
        chance, fleet = 1.0, self._fleet.get(runner)
        if fleet is None:
            chance = 0.5**span
        else:
            for each in range(span + 1):
                chance = fleet.of(each, chance, _PRIOR_WORTH) / 2
            chance *= 2
        known = self._nodes.get((node, runner))
        return known.rates.of(span, chance, _FLEET_WORTH) if known else chance

    def learn(self, node: str, runner: str, between: int, hit: float) -> None:
        """Take in the share of what was believed to be there that was there."""
        span = min(_SPANS - 1, between.bit_length())
        self._node(node, runner).rates.learn(span, hit)
        fleet = self._fleet.get(runner)
        if fleet is None:
            fleet = self._fleet[runner] = _Rates()
            if len(self._fleet) > _MOST_NODES:
                self._fleet.popitem(last=False)
        fleet.learn(span, hit)

    def _node(self, node: str, runner: str) -> _Node:
        key = node, runner
        known = self._nodes.get(key)
        if known is None:
            known = self._nodes[key] = _Node()
            if len(self._nodes) > _MOST_NODES:
                self._nodes.popitem(last=False)
        else:
            self._nodes.move_to_end(key)
        return known


class PromptReuse:
    """What each node has read of one prompt, and the chance that it is there."""

    __slots__ = ("_caches", "_found", "_runner")

    def __init__(
        self,
        caches: PromptCaches,
        runner: str,
        found: dict[str, list[tuple[float, int]]],
    ) -> None:
        self._caches, self._runner, self._found = caches, runner, found

    @property
    def nodes(self) -> Collection[str]:
        return self._found.keys()

    def at(self, node: str) -> Reused | None:
        """Return the best that may be found on a node now."""
        caches, runner = self._caches, self._runner
        best, most = None, 0.0
        now = caches.begun(node, runner)
        for share, begun in self._found.get(node, ()):
            between = now - begun
            if share > most and 0 <= between < _LOADED:
                chance = caches.chance(node, runner, between)
                if share * chance > most:
                    best, most = Reused(share, between, chance), share * chance
        return best

    def on(self, node: str, work: Work) -> Work:
        """Return the work that is left on a node."""
        reused = self.at(node) if node in self._found else None
        if reused is None:
            return work
        prompt, tokens, squares, _ = work
        return Work(prompt, tokens, squares, reused.expected * prompt)
