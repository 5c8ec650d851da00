"""Attempts in flight, with the sums that the policy needs; pure.

The sums are updated as attempts begin and end, so that a choice costs the same on a
thousand nodes as on eight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from router.jobs.model import Running
from router.jobs.planning.protocols import Speeds

_Key = tuple[str, str]
_Attempt = tuple[int, str]  # item and node


@dataclass(slots=True)
class _Rate:
    """A node's speed for one model: tokens per second in total, and of each stream."""

    total: float
    stream: float


@dataclass(slots=True)
class _Model:
    rates: dict[str, _Rate] = field(default_factory=dict)
    total: float = 0.0
    streams: float = 0.0  # the speeds of one stream of each known node, summed
    known: int = 0
    fastest: str | None = None

    def put(self, node: str, rate: _Rate | None) -> None:
        self.fastest = None
        old = self.rates.pop(node, None)
        if old:
            self.total -= old.total
            self.streams -= old.stream
            self.known -= old.stream > 0
        if rate:
            self.rates[node] = rate
            self.total += rate.total
            self.streams += rate.stream
            self.known += rate.stream > 0
        if not self.rates:
            self.total = self.streams = 0.0  # no rest of rounding

    @property
    def typical(self) -> float:
        """Return the mean speed of a stream over the nodes where it is known."""
        return self.streams / self.known if self.known else 0.0


@dataclass(frozen=True, slots=True)
class LateAttempt:
    """When an attempt is expected to end, and its estimated tokens so far."""

    ends: float
    produced: float
    attempt: Running

    @property
    def item(self) -> int:
        return self.attempt.item.id


@dataclass(frozen=True, slots=True)
class LatestEnds:
    """The attempts that end last, computed for a version and a time."""

    version: int
    at: float
    until: float
    some: tuple[LateAttempt, ...]

    def good(self, now: float, version: int) -> bool:
        return now < self.until or (now == self.at and version == self.version)


class InFlightItems:
    """All attempts of this router in flight, by item and by node.

    version: changes whenever an attempt begins or ends
    claims:  nodes that are being emptied for a model that no node runs
    latest:  the attempts that end last, as computed last
    opening: attempts that a job's first partial result waits for
    """

    def __init__(self) -> None:
        self.version = 0
        self.claims: dict[str, str] = {}
        self.latest: LatestEnds | None = None
        self.opening: dict[_Attempt, Running] = {}
        self._items: dict[int, list[Running]] = {}
        self._copied: set[int] = set()
        self._nodes: dict[str, dict[int, Running]] = {}
        self._models: dict[str, _Model] = {}
        self._turns: dict[str, tuple[str, float]] = {}
        self._stale: dict[_Key, None] = {}  # in order: the same choices each time

    def __len__(self) -> int:
        return sum(len(attempts) for attempts in self._items.values())

    def __iter__(self) -> Iterator[Running]:
        for attempts in self._items.values():
            yield from attempts

    def start(self, attempt: Running) -> None:
        """Add an attempt. Raises ValueError if the item must not run again."""
        item, node = attempt.item.id, attempt.node
        attempts = self._items.setdefault(item, [])
        if attempts and (not attempt.copy or item in self._copied):
            raise ValueError(f"item {item!r} runs already")
        if item in self._nodes.get(node, ()):
            raise ValueError(f"item {item!r} runs on node {node!r} already")
        attempts.append(attempt)
        if attempt.copy:
            self._copied.add(item)
        self._nodes.setdefault(node, {})[item] = attempt
        if attempt.item.opening:
            self.opening[item, node] = attempt
        self.claims.pop(node, None)
        if self._turns.get(node, ("", 0.0))[0] != attempt.item.model:
            self._turns[node] = attempt.item.model, attempt.since
        self._changed(node, attempt.item.model)

    def end(self, item: int, node: str) -> Running | None:
        """Remove an attempt; return None if there was none."""
        attempt = self._nodes.get(node, {}).pop(item, None)
        if attempt is None:
            return None
        self.opening.pop((item, node), None)
        if not self._nodes[node]:
            del self._nodes[node]
        attempts = self._items[item]
        attempts.remove(attempt)
        if not attempts:
            del self._items[item]
            self._copied.discard(item)
        self._changed(node, attempt.item.model)
        return attempt

    def follow(self, attempts: Iterable[Running]) -> None:
        """Set the attempts to exactly these."""
        wanted = {(each.item.id, each.node): each for each in attempts}
        held = {(each.item.id, each.node) for each in self}
        for item, node in held - wanted.keys():
            self.end(item, node)
        for key in sorted(wanted.keys() - held, key=lambda key: wanted[key].copy):
            self.start(wanted[key])

    def attempts(self, item: int) -> tuple[Running, ...]:
        return tuple(self._items.get(item, ()))

    def copied(self, item: int) -> bool:
        """Say whether an item in flight has, or had, a copy."""
        return item in self._copied

    def on(self, node: str) -> tuple[Running, ...]:
        return tuple(self._nodes.get(node, {}).values())

    def models(self, node: str) -> frozenset[str]:
        """Return the models that a node runs for jobs, loaded or being loaded."""
        there = self._nodes.get(node)
        if not there:
            return frozenset()
        return frozenset(attempt.item.model for attempt in there.values())

    def turn(self, node: str) -> float:
        """Return when the node began to run its current, or its last, model."""
        return self._turns[node][1] if node in self._turns else -inf

    def nodes(self, model: str) -> tuple[str, ...]:
        """Return the nodes that run the model for jobs."""
        seen = self._models.get(model)
        return tuple(seen.rates) if seen else ()

    def rate(self, model: str, speeds: Speeds) -> float:
        """Return the model's tokens/s on all nodes; unknown nodes count as the mean."""
        self._refresh(speeds)
        seen = self._models.get(model)
        return max(0.0, seen.total) if seen else 0.0

    def typical(self, model: str, speeds: Speeds) -> float | None:
        """Return the mean known speed of a stream; None if none is known."""
        self._refresh(speeds)
        seen = self._models.get(model)
        return seen.typical or None if seen else None

    def fastest(self, model: str, speeds: Speeds) -> str | None:
        """Return the node with the fastest streams."""
        self._refresh(speeds)
        seen = self._models.get(model)
        if seen is None:
            return None
        if seen.fastest is None:
            seen.fastest = max(seen.rates, key=lambda node: seen.rates[node].stream)
        return seen.fastest

    def _changed(self, node: str, model: str) -> None:
        self.version += 1
        self._stale[node, model] = None

    def _refresh(self, speeds: Speeds) -> None:
        if not self._stale:
            return
        stale, self._stale = self._stale, {}
        for node, model in stale:
            seen = self._models.setdefault(model, _Model())
            there = self._nodes.get(node, {}).values()
            own = sum(attempt.item.model == model for attempt in there)
            seen.put(node, self._rate(seen, own, node, model, speeds))
            if not seen.rates:
                del self._models[model]

    @staticmethod
    def _rate(
        seen: _Model, own: int, node: str, model: str, speeds: Speeds
    ) -> _Rate | None:
        if not own:
            return None
        streams = max(own, speeds.streams(node))
        stream = speeds.tokens_per_second(node, model, streams)
        if stream is None:
            return _Rate(own * seen.typical, 0.0)  # as the others, until it is seen
        return _Rate(own * stream, stream)
