"""Who else could go on with a request that is to leave its node.

Asked before anything is cut, so that an eviction breaks no stream that could not be
continued: a parsed model's cannot, nor one whose model differs on the other node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from router.capacity.ledger import Lease
from router.failover.continuation.proof import parsed
from router.scheduling.pipeline import BUSY, RoutingRequest
from router.scheduling.scheduler import Scheduler
from router.snapshot import NodeView, Published

__all__ = ["MigrationTargets", "Show"]

# Gives what a node's `/api/show` says of a model; None where it does not answer.
Show = Callable[[NodeView, str], Mapping[str, Any] | None]

_MOST_REMEMBERED = 1024


class MigrationTargets:
    """Knows, by the model's digest, whose streams can be continued at all."""

    def __init__(self, dispatcher: Scheduler, published: Published, show: Show) -> None:
        self._dispatcher = dispatcher
        self._published = published
        self._show = show
        self._plain: dict[str, bool] = {}

    def take(self, lease: Lease, *, answered: bool) -> bool:
        """Say whether another node could, now or soon; may wait for `/api/show`."""
        others = self._others(lease)
        if not answered:
            return next(others, None) is not None
        here = _digest(self._published.current.nodes.get(lease.node), lease.model)
        return any(
            here == _digest(view, lease.model) and self._continues(view, lease.model)
            for view in others
        )

    def _others(self, lease: Lease) -> Iterator[NodeView]:
        """Give the nodes that may take it: free ones first, then busy ones."""
        routing = RoutingRequest(lease.model, lease.tried | {lease.node})
        decision = self._dispatcher.explain(routing)
        if decision.last_resort:
            return  # they fail, too
        yield from (each.view for each in decision.candidates)
        nodes = self._published.current.nodes
        for name, reason in decision.rejected.items():
            if reason == BUSY and name in nodes:
                yield nodes[name]

    def _continues(self, view: NodeView, model: str) -> bool:
        digest = _digest(view, model)
        if digest is None:
            return False
        if digest not in self._plain:
            show = self._show(view, model)
            if show is None:
                return False
            if len(self._plain) >= _MOST_REMEMBERED:
                self._plain.clear()
            self._plain[digest] = not parsed(show)
        return self._plain[digest]


def _digest(view: NodeView | None, model: str) -> str | None:
    found = (view.present or {}).get(model) if view else None
    return found.digest if found else None
