"""Which model is in which node's memory, as polls saw it and our own requests make it.

A request for a model that is not there makes Ollama load it, one load at a time, and
unload what was used longest ago where both do not fit. Polls see that seconds later;
who was sent there meanwhile would push it out again. So what our requests started is
believed first. Another set of load options is another model as far as memory goes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from router.capacity.ledger import Lease
from router.model import Outcome
from router.runtime.turns import in_turns
from router.snapshot import NodeView, ResidentModel, Snapshot

# A poll may have been under way before our request was, and is published later.
_OWN_SECONDS = 8.0
_LEARNS_SECONDS = 20.0  # after our load: what is gone went for it, not by its age
_FITS = 0.9  # of a GPU's memory
_PER_GPU = 3  # models that Ollama keeps on one GPU unless it is told otherwise
_OVERHEAD = 1.2  # of a model's memory over its file, where nobody has seen it
# Ollama's load_duration of a resident model is what looking it up takes.
_LOOKED_UP_SECONDS, _LOADED_SECONDS = 0.25, 0.5
_MOST_SAME = 4096
_NEVER = float("-inf")


class Standing(NamedTuple):
    """How a model stands on a node.

    cold:     whether a request would have to load it
    ready_at: when it is loaded, or the load before it is done
    victims:  what would go for it
    busy:     whether one of those runs something: it has to end first
    leaving:  whether it is about to go for another: asked for again, it would stay
    """

    cold: bool = False
    ready_at: float = 0.0
    victims: tuple[str, ...] = ()
    busy: bool = False
    leaving: bool = False


_LOADED = Standing()
_COLD = Standing(cold=True)
_LEAVING = Standing(cold=True, leaving=True)


@dataclass(slots=True)
class _Loading:
    """A load that our own request started; `until`: as expected."""

    runner: str
    lease: Lease
    until: float
    victims: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    """A node's memory: what is there, and what was learned of its room.

    resident:  by model, the options that it was loaded with, as far as is known
    used:      when our last request of a model ended there
    running:   requests of ours under way, by model
    most:      models that were seen there at one time; `limit`: that never were more
    loaded_at: when a load of ours was done
    """

    resident: dict[str, str] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)
    loading: list[_Loading] = field(default_factory=list)
    changed_at: float = _NEVER
    loaded_at: float = _NEVER
    most: int = 0
    limit: int | None = None


class Residency:
    """The memory of every node.

    copies: nodes that hold a model as it was loaded, or load it so
    """

    def __init__(self) -> None:
        self.copies: Counter[str] = Counter()
        self._nodes: dict[str, _Node] = {}
        self._loading: set[str] = set()
        self._sizes: dict[str, int] = {}  # of models in memory, as seen anywhere
        # Requests under way whose options were others than those that were there, and
        # what was found to be the same.
        self._swaps: dict[Lease, tuple[str, str]] = {}
        self._same: dict[str, str] = {}
        self._views: Mapping[str, NodeView] = {}

    # What is told

    def look(self, snapshot: Snapshot, now: float) -> list[str]:
        """Take what polls saw; name the nodes of which something else is known now."""
        self._views = snapshot.nodes
        changed = []
        for name in self._nodes.keys() - snapshot.nodes.keys():
            self._hold(self._nodes.pop(name), {})
            self._loading.discard(name)
        for name, view in in_turns(snapshot.nodes.items()):
            if self._views is not snapshot.nodes:
                break  # a newer one was taken in meanwhile
            if view.resident is not None and self._polled(name, view.resident, now):
                changed.append(name)
        return changed

    def _polled(self, name: str, seen: Mapping[str, ResidentModel], now: float) -> bool:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node()
        node.most = max(node.most, len(seen))
        if node.loading:
            self._settle(name, node, now)
        if node.loading or now - node.changed_at < _OWN_SECONDS:
            return False
        if seen.keys() == node.resident.keys():
            return False
        for model, listed in seen.items():
            self._sizes[model] = listed.vram_bytes or listed.size_bytes
        gone = node.resident.keys() - seen.keys()
        if gone and now - node.loaded_at < _LEARNS_SECONDS:
            node.limit = len(seen)
        if node.limit is not None and len(seen) > node.limit:
            node.limit = None
        self._hold(node, {model: node.resident.get(model, "") for model in seen})
        return True

    def began(self, lease: Lease, runner: str, load_seconds: float, now: float) -> None:
        """Take note of a request that is sent; it may be the one that loads."""
        standing = self.standing(lease.node, runner, now)
        self._note_swap(lease, runner, standing)
        node = self._nodes.get(lease.node)
        if node is None:
            node = self._nodes[lease.node] = _Node()
        node.running[lease.model] += 1
        if standing.cold:
            gone = {split(each)[0] for each in standing.victims}
            left = {m: o for m, o in node.resident.items() if m not in gone}
            self._hold(node, left)
            until = max(now, standing.ready_at) + load_seconds
            node.loading.append(_Loading(runner, lease, until, standing.victims))
            node.changed_at = now
            self._loading.add(lease.node)
            self.copies[runner] += 1

    def _note_swap(self, lease: Lease, runner: str, standing: Standing) -> None:
        """Remember who asks for other options than those that are there."""
        before = next(iter(standing.victims), "")
        if split(before)[0] == split(runner)[0]:
            self._swaps[lease] = (runner, before)
        elif self._same and standing == _LOADED:
            self._swaps[lease] = ("", runner)

    def reported(self, lease: Lease, load_seconds: float) -> None:
        """Take what a reply says of its load: options may change nothing."""
        swap = self._swaps.pop(lease, None)
        if swap is None or not load_seconds:
            return
        runner, before = swap
        if runner and load_seconds < _LOOKED_UP_SECONDS:
            self._are_same(runner, before)
        elif not runner and load_seconds > _LOADED_SECONDS:
            self._same = {r: s for r, s in self._same.items() if s != before}

    def _are_same(self, runner: str, before: str) -> None:
        self._same[runner] = before
        if len(self._same) > _MOST_SAME:
            del self._same[next(iter(self._same))]
        model, options = split(runner)
        for node in self._nodes.values():
            if node.resident.get(model) == options:
                self._hold(node, {**node.resident, model: split(before)[1]})

    def same_as(self, runner: str) -> str:
        """Return what is loaded alike; the runner itself where nothing is known."""
        return self._same.get(runner, runner) if self._same else runner

    def ended(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Take note of a request's end, on which its load is over."""
        node = self._nodes.get(lease.node)
        if node is None or not node.running[lease.model]:
            return
        node.running[lease.model] -= 1
        node.used[lease.model] = now
        if node.loading:
            self._settle(lease.node, node, now)
            for loading in [each for each in node.loading if each.lease is lease]:
                came = outcome in {Outcome.END, Outcome.CLIENT_GONE}
                self._over(lease.node, node, loading, now, loaded=came)

    # What is asked

    def settle(self, now: float) -> list[str]:
        """Let loads be over whose request has begun to answer; name their nodes."""
        changed = []
        for name in list(self._loading):
            node = self._nodes[name]
            if any(each.lease.decoding_since for each in node.loading):
                self._settle(name, node, now)
                changed.append(name)
        return changed

    def standing(self, name: str, runner: str, now: float) -> Standing:
        """Say how a model stands on a node."""
        node = self._nodes.get(name)
        if node is None:
            return _COLD
        if node.loading:
            self._settle(name, node, now)
        model, options = split(runner)
        for loading in node.loading:
            if loading.runner == runner:
                return Standing(ready_at=loading.until)
            if runner in loading.victims and node.running[model]:
                return _LEAVING
        if node.resident.get(model) == options:
            return _LOADED
        ready_at = max((each.until for each in node.loading), default=0.0)
        victims = self._victims(name, node, model)
        busy = any(node.running[split(each)[0]] for each in victims)
        return Standing(cold=True, ready_at=ready_at, victims=victims, busy=busy)

    def loaded_at(self, name: str) -> float:
        """Return when a load of ours was last done there."""
        node = self._nodes.get(name)
        return node.loaded_at if node else _NEVER

    def _victims(self, name: str, node: _Node, model: str) -> tuple[str, ...]:
        """Name what would go for a model: itself with other options, or the oldest."""
        there = {split(each.runner)[0]: split(each.runner)[1] for each in node.loading}
        there |= node.resident
        if model in there:
            return (runner_of(model, there[model]),)
        if not there or self._fits(name, node, model, there):
            return ()
        idle = [each for each in node.resident if not node.running[each]]
        some = idle or node.resident or there  # what is being loaded goes last
        oldest = min(some, key=lambda each: node.used.get(each, _NEVER))
        return (runner_of(oldest, there[oldest]),)

    def _fits(self, name: str, node: _Node, model: str, there: Iterable[str]) -> bool:
        """Say whether one model more is expected to fit."""
        models = {*there, model}
        if node.limit is not None and len(models) > node.limit:
            return False
        if len(models) <= node.most:
            return True
        view = self._views.get(name)
        memory = view.node.attributes.get("vram_bytes") if view else None
        if memory is None or len(models) > _PER_GPU:
            return False
        return sum(self._size(view, each) for each in models) <= _FITS * memory

    def _size(self, view: NodeView | None, model: str) -> float:
        known = self._sizes.get(model)
        if known:
            return known
        present = view.present if view else None
        listed = present.get(model) if present else None
        return _OVERHEAD * listed.size_bytes if listed else 0.0

    # Inside

    def _settle(self, name: str, node: _Node, now: float) -> None:
        """Let loads be over whose request has begun to answer."""
        for loading in [each for each in node.loading if each.lease.decoding_since]:
            self._over(name, node, loading, now, loaded=True)

    def _over(
        self, name: str, node: _Node, loading: _Loading, now: float, *, loaded: bool
    ) -> None:
        node.loading.remove(loading)
        if not node.loading:
            self._loading.discard(name)
        self.copies[loading.runner] -= 1
        if loaded:
            model, options = split(loading.runner)
            self._hold(node, {**node.resident, model: options})
            node.used[model] = node.loaded_at = node.changed_at = now
        else:
            node.changed_at = _NEVER  # polls will tell

    def _hold(self, node: _Node, resident: dict[str, str]) -> None:
        self.copies.subtract(itertools.starmap(runner_of, node.resident.items()))
        self.copies.update(itertools.starmap(runner_of, resident.items()))
        node.resident = resident


def runner_of(model: str, options: str) -> str:
    """Name what is in memory: a model, with what it was loaded with."""
    return f"{model}\n{options}" if options else model


def split(runner: str) -> tuple[str, str]:
    model, _, options = runner.partition("\n")
    return model, options
