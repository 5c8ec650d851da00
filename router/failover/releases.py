"""Which releases of Ollama lack which routes, as their nodes have answered."""

from __future__ import annotations

import time
from collections.abc import Callable

from router.snapshot import Published

__all__ = ["Releases"]

_REMEMBERED_SECONDS = 600.0
_MOST_REMEMBERED = 1024


class Releases:
    """Asked before a node is, so that no slot is waited for to hear of it again."""

    def __init__(
        self, published: Published, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._published = published
        self._clock = clock
        self._lack: dict[tuple[str, str], float] = {}

    def lacking(self, path: str) -> frozenset[str]:
        """Return the nodes whose release is known to lack the route."""
        if not self._lack:
            return frozenset()
        since = self._clock() - _REMEMBERED_SECONDS
        return frozenset(
            name
            for name in self._published.current.nodes
            if self._lack.get((path, self._release(name)), since) > since
        )

    def all_lack(self, path: str, model: str) -> bool:
        """Whether every node that has the model is known to lack the route."""
        views = self._published.current.nodes
        having = {
            name
            for name, view in views.items()
            if view.present is None or model in view.present
        }
        return bool(having) and self.lacking(path) >= having

    def note(self, path: str, node: str) -> None:
        """Remember that this node's release lacks it; the oldest are forgotten."""
        key = path, self._release(node)
        self._lack.pop(key, None)
        self._lack[key] = self._clock()
        if len(self._lack) > _MOST_REMEMBERED:
            del self._lack[next(iter(self._lack))]

    def _release(self, node: str) -> str:
        """Return the node's version; of one that is not known, the node is its own."""
        view = self._published.current.nodes.get(node)
        return view.version if view and view.version else f"node {node}"
