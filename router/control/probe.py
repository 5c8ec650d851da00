"""Polls each node for its models, and notices when it does not answer.

A node that hangs occupies one of a bounded number of polls; it delays neither other
nodes nor the control loop. A refused connection, or two failures in a row, place a
`down` hold; one answer lifts it, also one that live traffic placed before the poll
began. An answer to a poll closes no circuit: it does not prove that the node generates.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from router.clients import ollama as listings
from router.clients.http_json import PollError, PollRefusedError, get_json
from router.config.settings import ControlSettings
from router.control.decide import PolledModels
from router.holds.record import HoldRecord
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Access, Hold, HoldKind, Inventory, Node

Fetch = Callable[[Node, str, float], Any]
# Begins to watch what a node says to requests; calls back whether it said anything.
Moves = Callable[[str], Callable[[], bool]]

_TOLERATED = 1  # failures in a row that hold nothing yet
# The list of hundreds of models over a slow link is a transfer, not a sign of life.
_TIMES_FOR_A_LIST = 10
_SOURCE = "probe"
_LIFTED = (_SOURCE, "traffic")
_CONCURRENCY = 64
_SILENT_SHARE = 3
_DOWN_POLLS_PER_SECOND = 200.0  # a seventh of a core
_TICK_SECONDS = 0.1
_HURRIED_SECONDS = 0.5  # between two polls of a node that somebody waits for
_STOP_SECONDS = 5.0


class Poll(StrEnum):
    """The kinds of poll."""

    RESIDENT = "resident"  # /api/ps
    PRESENT = "present"  # /api/version and /api/tags


@dataclass(slots=True)
class _Watch:
    """One polled node.

    phase: where in an interval its polls fall, so that those of a fleet are spread
    """

    node: Node
    due: dict[Poll, float]
    phase: float
    under_way: set[Poll] = field(default_factory=set)
    failures: int = 0
    models: PolledModels = field(default_factory=PolledModels)

    @property
    def answers(self) -> bool:
        """Say whether the node answered its last poll."""
        known = self.models.resident is not None or self.models.present is not None
        return known and self.failures == 0

    def schedule(self, poll: Poll, now: float, interval: float) -> None:
        """Set the next time, on the node's own grid: a burst is not repeated."""
        self.due[poll] = now + interval - (now - self.phase * interval) % interval


class Probe:
    """Polls the inventory's nodes; `changed` is called when a node's models change."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        settings: Callable[[], ControlSettings],
        holds: HoldStore,
        changed: Callable[[], None],
        *,
        fetch: Fetch = get_json,
        moves: Moves = lambda _node: lambda: False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        concurrency: int = _CONCURRENCY,
    ) -> None:
        self._inventory = inventory
        self._settings = settings
        self._holds = holds
        self._changed = changed
        self._fetch = fetch
        self._moves = moves
        self._clock = clock
        self._monotonic = monotonic
        self._log = get_logger("probe")
        self._watched: dict[str, _Watch] = {}
        self._pool = ThreadPoolExecutor(concurrency, "probe")
        self._hurried_until = float("-inf")
        # Apart, so that nodes which do not answer keep nobody waiting who does.
        self._silent = ThreadPoolExecutor(_SILENT_SHARE * concurrency, "probe-silent")
        self._followed: Inventory | None = None
        self._failing = 0  # nodes, at the last tick
        self._stop = threading.Event()
        self._timer = threading.Thread(target=self._run, name="probe", daemon=True)

    def start(self) -> None:
        """Begin polling; only after the fork."""
        self._timer.start()

    def stop(self) -> None:
        """Stop polling; running polls end by their own deadline."""
        self._stop.set()
        if self._timer.is_alive():
            self._timer.join(_STOP_SECONDS)
        for pool in (self._pool, self._silent):
            pool.shutdown(wait=True, cancel_futures=True)

    def view(self) -> Mapping[str, PolledModels]:
        """Return what each node had when it last answered."""
        return {name: each.models for name, each in tuple(self._watched.items())}

    def hurry(self, seconds: float) -> None:
        """Poll nodes that are down at once and often, for a while: one is needed."""
        now = self._monotonic()
        self._hurried_until = max(self._hurried_until, now + seconds)
        for name, watch in tuple(self._watched.items()):
            if self._down(name):
                watch.due[Poll.RESIDENT] = now

    def look_for_models(self) -> None:
        """Ask every reachable node for its models; return when all have answered."""
        now = self._monotonic()
        watched = tuple(self._watched.items())
        reached = [watch for name, watch in watched if not self._down(name)]
        asked = [self._ask_now(each, Poll.PRESENT, now) for each in reached]
        wait(filter(None, asked), self._settings().probe_timeout_seconds)

    def look_at(self, nodes: Iterable[str]) -> None:
        """Ask these nodes soon which models they have loaded."""
        now = self._monotonic()
        for watch in filter(None, map(self._watched.get, nodes)):
            watch.due[Poll.RESIDENT] = now

    def tick(self) -> None:
        """Start the polls that are due."""
        now = self._monotonic()
        self._follow(now)
        self._failing = sum(w.failures > _TOLERATED for w in self._watched.values())
        for watch in self._watched.values():
            self._hurry(watch, now)
            for poll in Poll:
                if watch.due[poll] <= now:
                    self._ask_now(watch, poll, now)

    def _ask_now(self, watch: _Watch, poll: Poll, now: float) -> Future[None] | None:
        """Begin a poll; None where it is under way, or its answer would say nothing."""
        if poll in watch.under_way:
            return None
        watch.schedule(poll, now, self._interval(watch, poll))
        if poll is not Poll.RESIDENT and watch.failures > _TOLERATED:
            return None
        watch.under_way.add(poll)
        pool = self._pool if watch.answers else self._silent
        asked = pool.submit(self._poll, watch, poll)
        asked.add_done_callback(self._report)
        return asked

    def _hurry(self, watch: _Watch, now: float) -> None:
        if now < self._hurried_until and watch.failures:
            soon = now + _HURRIED_SECONDS
            watch.due[Poll.RESIDENT] = min(watch.due[Poll.RESIDENT], soon)

    def _poll(self, watch: _Watch, poll: Poll) -> None:
        # Only what stood before the question is lifted by its answer.
        found = self._down(watch.node.name)
        moved = self._moves(watch.node.name)
        try:
            answer = self._ask(watch.node, poll)
        except PollError as error:
            self._failed(watch, error, moved())
        else:
            self._answered(watch, found, answer)
        finally:
            watch.under_way.discard(poll)

    def _report(self, asked: Future[None]) -> None:
        error = None if asked.cancelled() else asked.exception()
        if error is not None:
            self._log.error("poll_failed", error=repr(error))

    def _run(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            self.tick()

    def _interval(self, watch: _Watch, poll: Poll) -> float:
        """Say how long to wait; thousands that are down are asked more rarely."""
        settings = self._settings()
        if poll is not Poll.RESIDENT:
            return settings.present_interval_seconds
        interval = settings.resident_interval_seconds
        if watch.failures > _TOLERATED:
            return max(interval, self._failing / _DOWN_POLLS_PER_SECOND)
        return interval

    def _follow(self, now: float) -> None:
        """Take up new and changed nodes at once, and let go of those that left."""
        inventory = self._inventory()
        if inventory is self._followed:
            return
        self._followed = inventory
        nodes = {node.name: node for node in inventory.nodes}
        for name in self._watched.keys() - nodes.keys():
            del self._watched[name]
        for name, node in nodes.items():
            watch = self._watched.get(name)
            if watch is None or _reached(watch.node) != _reached(node):
                phase = zlib.crc32(name.encode()) / 2**32
                self._watched[name] = _Watch(node, dict.fromkeys(Poll, now), phase)

    def _ask(self, node: Node, poll: Poll) -> dict[str, Any]:
        """Ask, and give what changes in the node's models."""
        timeout = self._settings().probe_timeout_seconds
        if poll is Poll.RESIDENT:
            return {
                "resident": listings.resident(self._fetch(node, "/api/ps", timeout))
            }
        version = listings.version(self._fetch(node, "/api/version", timeout))
        timeout *= _TIMES_FOR_A_LIST
        present = listings.present(self._fetch(node, "/api/tags", timeout))
        return {"version": version, "present": present}

    def _down(self, node: str) -> list[HoldRecord]:
        return [
            each
            for each in self._holds.standings_of(node)
            if each.hold.kind is HoldKind.DOWN and each.hold.source in _LIFTED
        ]

    def _failed(self, watch: _Watch, error: PollError, moved: bool) -> None:
        gone = isinstance(error, PollRefusedError)
        if moved and not gone:
            return  # it is busy with requests, or its link is: no sign of death
        watch.failures += 1
        if gone or watch.failures > _TOLERATED:
            self._hold(watch.node.name, str(error))
        else:
            # A suspicion is looked into at once: a node that hangs is out after one
            # interval and two time limits at most.
            watch.due[Poll.RESIDENT] = self._monotonic()

    def _hold(self, node: str, why: str) -> None:
        if node not in self._watched:
            return  # it left the inventory meanwhile
        hold = Hold(node, HoldKind.DOWN, _SOURCE, why, self._clock())
        if self._holds.find_down(hold):
            self._log.warning("node_down", node=node, why=why)

    def _answered(
        self, watch: _Watch, found: list[HoldRecord], answer: dict[str, Any]
    ) -> None:
        before, watch.models = watch.models, replace(watch.models, **answer)
        back = watch.failures > 0 or bool(found)
        watch.failures = 0
        lifted = [self._lift(standing) for standing in found]
        if any(lifted) and not self._down(watch.node.name):
            self._log.info("node_back", node=watch.node.name)
        if back and "present" not in answer:
            # What it has on disk may have changed while it was away.
            watch.due[Poll.PRESENT] = self._monotonic()
        if _contents(before) != _contents(watch.models):
            self._changed()

    def _lift(self, standing: HoldRecord) -> bool:
        return self._holds.lift(
            *standing.hold.key,
            by=_SOURCE,
            why="it answers",
            revision=standing.revision,
        )


def _reached(node: Node) -> tuple[str, Access]:
    return node.url, node.access


def _contents(models: PolledModels) -> tuple[Any, ...]:
    """Give what dispatch cares for; how long a model stays loaded is not in it."""
    present = [(m.name, m.digest) for m in (models.present or {}).values()]
    resident = [(m.name, m.vram_bytes) for m in (models.resident or {}).values()]
    answered = models.present is not None, models.resident is not None
    return models.version, present, resident, answered
