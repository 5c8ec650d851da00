"""What follows from the death of a runner, the process in which a node keeps a model.

Ollama may tell one request only. The others then get no byte and no end, and the node
takes no new request until their connections close; `/api/ps` goes on listing the model.
So the first sign speaks for every request that is older: each is ended here, to go on
elsewhere where it can, and the model counts as not loaded until it spoke again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Protocol

import gevent

from router.capacity.ledger import Lease, Ledger
from router.failover.liveness import Liveness
from router.failover.verdict import runner_died
from router.logs.events import get_logger
from router.model import Outcome, Timings
from router.snapshot import NodeView, Published, Snapshot

__all__ = ["DIED", "DeadRunners"]

DIED = "the model runner has stopped"

log = get_logger("failover")


class Tally(Protocol):
    """What deaths are counted with."""

    def runner_died(self, node: str, model: str) -> None: ...


class DeadRunners:
    """Takes signs of dead runners; one for the process.

    runs: asks a node whether a model's runner is there; needs no slot, and gets no
          answer where the runner is dead
    """

    def __init__(
        self,
        ledger: Ledger,
        published: Published,
        liveness: Liveness,
        tally: Tally,
        *,
        runs: Callable[[str, str], bool],
        clock: Callable[[], float] = time.monotonic,
        spawn: Callable[..., object] = gevent.spawn,
    ) -> None:
        self._ledger = ledger
        self._published = published
        self._liveness = liveness
        self._tally = tally
        self._runs = runs
        self._clock = clock
        self._spawn = spawn
        self._lost_at: dict[tuple[str, str], float] = {}
        self._died_at: dict[tuple[str, str], float] = {}
        ledger.listen(self._ended)
        published.correct_by(self.without_dead)

    @property
    def lost(self) -> Mapping[tuple[str, str], float]:
        """Return when each (node, model) lost its runner, until it spoke again."""
        return MappingProxyType(self._lost_at)

    def note(self, lease: Lease, text: str) -> None:
        """Take what a node said of a failure."""
        if runner_died(text):
            self._died(lease, text)

    def doubt(self, lease: Lease) -> None:
        """Take an end without the protocol's last line and without any word.

        On some routes a dead runner leaves just that, and so does a model that repeats
        itself: ask the node, and see whether others go on.
        """
        others = [each for each in self._ledger.leases(lease.node) if each.reply]
        if any(each.model == lease.model for each in others if each is not lease):
            self._spawn(self._find_out, lease)

    def spoke(self, lease: Lease) -> None:
        """Take the first line of a stream: its model is loaded."""
        lost_at = self._lost_at.get((lease.node, lease.model))
        if lost_at is not None and lease.taken_at > lost_at:
            del self._lost_at[lease.node, lease.model]
            self._published.refresh()

    def without_dead(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot without the models that only seem to be loaded."""
        if not self._lost_at:
            return snapshot
        views = {name: self._corrected(view) for name, view in snapshot.nodes.items()}
        return replace(snapshot, nodes=views)

    def _corrected(self, view: NodeView) -> NodeView:
        node, loaded = view.node.name, view.resident or {}
        left = {m: each for m, each in loaded.items() if (node, m) not in self._lost_at}
        return view if len(left) == len(loaded) else replace(view, resident=left)

    def _find_out(self, lease: Lease) -> None:
        before = self._liveness.marks(lease.node)
        if self._runs(lease.node, lease.model):
            return
        moved = self._liveness.moved(lease.node, before)
        if not any(each.model == lease.model for each in moved):
            self._died(lease, DIED)

    def _died(self, lease: Lease, why: str) -> None:
        """End what is older; those whose own end says the same are over already."""
        node, model = key = lease.node, lease.model
        if lease.taken_at <= self._died_at.get(key, -inf):
            return  # one more word on the same death: who is there now began after it
        if key not in self._lost_at:
            self._tally.runner_died(node, model)
        self._lost_at[key] = self._died_at[key] = self._clock()
        older = [each for each in self._ledger.leases(node) if each.model == model]
        moved = sum(bool(each.reply and each.reply.abandon(DIED)) for each in older)
        self._published.refresh()
        log.warning("runner_died", node=node, model=model, why=why, moved=moved)

    def _ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        tokens = timings.prompt_tokens + timings.generated_tokens if timings else 0
        if outcome is Outcome.END and tokens:
            self.spoke(lease)
