"""Moves requests off nodes that must be emptied, and off those that hang.

A stream that may be continued ends its segment here and goes on elsewhere; a request
without an answer is sent elsewhere. What cannot be moved (tools, formats that bind,
no other node with the model) is left to end by itself: nothing is broken by this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import gevent

from router.capacity.ledger import Evictable, Lease, Ledger
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Hold, HoldKind, HoldState

__all__ = ["Evictor", "Targets"]

_BY_PROBE = "probe"
# What took or said something just now is not hung, whatever a poll came to.
_MOVES_SECONDS = 2.0


class Targets(Protocol):
    """Says whether another node could go on (`router.failover.destinations`)."""

    def take(self, lease: Lease, *, answered: bool) -> bool: ...


class Evictor:
    """Looks at the holds that stand, and moves what they want moved."""

    def __init__(
        self,
        holds: HoldStore,
        ledger: Ledger,
        elsewhere: Targets,
        count: Callable[[str, int], None],
        *,
        spawn: Callable[..., object] = gevent.spawn,
    ) -> None:
        """Prepare; `spawn` runs a call beside this one: a question may take a while."""
        self._holds = holds
        self._ledger = ledger
        self._elsewhere = elsewhere
        self._count = count
        self._spawn = spawn
        self._log = get_logger("eviction")

    def after_pass(self) -> None:
        """Empty what the level confirmed: by now it is known whether it is panic."""
        self._empty(_evicts, answered_too=True)

    def after_change(self, nodes: Collection[str] | None = None) -> None:
        """Let nobody wait for an answer of a node that the probe found gone."""
        self._empty(_hangs, nodes, answered_too=False)

    def _empty(
        self,
        wanted: Callable[[Hold], bool],
        nodes: Collection[str] | None = None,
        *,
        answered_too: bool,
    ) -> None:
        for node in self._holds.blocked(nodes):
            blocking = self._holds.blocking(node)
            if self._ledger.in_flight(node) and any(map(wanted, blocking)):
                self._spawn(self._move, node, answered_too)

    def _move(self, node: str, answered_too: bool) -> None:
        moved = 0
        for lease in self._ledger.leases(node):
            reply = lease.reply
            if reply is not None and (answered_too or _hung(reply)):
                moved += self._moved(lease, reply)
        if moved:
            self._count(node, moved)
            self._log.info("moved", node=node, requests=moved)

    def _moved(self, lease: Lease, reply: Evictable) -> bool:
        answered = reply.answered
        if not reply.movable or not self._elsewhere.take(lease, answered=answered):
            return False
        # It may have begun to answer while that was found out.
        return reply.answered == answered and reply.evict()


def _evicts(hold: Hold) -> bool:
    # A ring alone moves nothing: it may be forged, or one of too many.
    return hold.kind is HoldKind.EVICT and hold.state is not HoldState.PROVISIONAL


def _hangs(hold: Hold) -> bool:
    return hold.kind is HoldKind.DOWN and hold.source == _BY_PROBE


def _hung(reply: Evictable) -> bool:
    return not reply.answered and not reply.moved_within(_MOVES_SECONDS)
