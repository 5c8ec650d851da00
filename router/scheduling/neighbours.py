"""Which nodes a principal that takes more than its share leaves to others; pure.

Streams that share a node slow each other, and a slot that is taken is kept: beside a
flood that fills every slot, others wait for one and then share the node with three of
its streams. Where a principal would take all that is left, it starts nothing on a node
where a request runs of one that has less than its share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["Neighbours"]

_NONE: frozenset[str] = frozenset()


class _Small(NamedTuple):
    running: int
    nodes: frozenset[str]


class Neighbours:
    """Who runs where.

    most_idle: slots that stay idle at most, for each that is used by principals that
               have less than their share
    """

    def __init__(self, most_idle: float = 2.0) -> None:
        self.most_idle = most_idle
        self._leases: dict[Hashable, tuple[str, str]] = {}
        self._nodes: dict[str, Counter[str]] = {}  # by principal
        self._kept: tuple[int, _Small] | None = None

    def began(self, running: Hashable, principal: str, node: str) -> None:
        self._leases[running] = principal, node
        self._nodes.setdefault(principal, Counter())[node] += 1
        self._kept = None

    def ended(self, running: Hashable) -> None:
        """Do nothing where it never began."""
        principal, node = self._leases.pop(running, ("", ""))
        if not node:
            return
        self._kept = None
        nodes = self._nodes[principal]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
            if not nodes:
                del self._nodes[principal]

    def left(
        self, principal: str, waiting: int, slots: Callable[[], int]
    ) -> frozenset[str]:
        """Return the nodes that a principal leaves to others.

        None while it has less than its share of the slots, while all that it waits for
        finds a slot, or while more are free than may be for what others use.
        slots: of all nodes that are not held; counted only where it matters
        """
        own = self._nodes.get(principal)
        if own is None or len(self._nodes) == 1 or not self.most_idle:
            return _NONE
        total = slots()
        free, share = total - len(self._leases), -(-total // len(self._nodes))
        if free >= waiting or own.total() < share:
            return _NONE
        small = self._small(share)
        return _NONE if free > self.most_idle * small.running else small.nodes

    def _small(self, share: int) -> _Small:
        """Return what those have that have less than their share."""
        if self._kept is None or self._kept[0] != share:
            small = [each for each in self._nodes.values() if each.total() < share]
            nodes = frozenset(node for each in small for node in each)
            found = _Small(sum(each.total() for each in small), nodes)
            self._kept = share, found
        return self._kept[1]
