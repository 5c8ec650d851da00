"""How much of a node is used: less while an alert derates it, and after a return.

A node that was out comes back slot by slot: its models are loaded again, and what
was wrong may not be over. Panic is no return: the fleet needs every slot then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Protocol

__all__ = ["Easing", "Held"]


class Held(Protocol):
    """What is read of the hold store."""

    @property
    def panic(self) -> bool: ...

    @property
    def factors(self) -> Mapping[str, float]: ...

    def blocked(self, among: Collection[str] | None = None) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class _Ramp:
    began_at: float
    seconds: float

    def share(self, now: float) -> float:
        return min(1.0, (now - self.began_at) / self.seconds)


class Easing:
    """Shares of nodes' slots; `active` is false nearly always.

    factors: what an alert leaves of a node, by node
    """

    def __init__(self) -> None:
        self.factors: Mapping[str, float] = {}
        self.active = False
        self._out: dict[str, float] = {}
        self._ramps: dict[str, _Ramp] = {}

    def look(
        self,
        held: Held,
        longest_seconds: float,
        now: float,
        nodes: Collection[str] | None = None,
    ) -> None:
        """Take a change of holds, of these nodes or of all: who left, who came back.

        Nobody is eased in for longer than it was out.
        """
        self.factors = held.factors
        if not held.panic:
            blocked = held.blocked() if nodes is None else held.blocked(nodes)
            gone = self._out.keys() if nodes is None else self._out.keys() & set(nodes)
            for node in gone - blocked:
                seconds = min(longest_seconds, now - self._out.pop(node))
                if seconds > 0:
                    self._ramps[node] = _Ramp(now, seconds)
            for node in blocked:
                self._out.setdefault(node, now)
                self._ramps.pop(node, None)
        self.active = bool(self.factors or self._ramps)

    def factor(self, node: str) -> float:
        return self.factors.get(node, 1.0)

    def ramp(self, node: str, now: float) -> float:
        """Return the share of its slots that a node which came back may use."""
        ramp = self._ramps.get(node)
        if ramp is None:
            return 1.0
        share = ramp.share(now)
        if share >= 1.0:
            del self._ramps[node]
            self.active = bool(self.factors or self._ramps)
        return share

    def slots(self, node: str, slots: int, now: Callable[[], float]) -> int:
        """Return how many of `slots` are used now; at least one, if there is any."""
        share = self.factor(node)
        if node in self._ramps:
            share *= self.ramp(node, now())
        return max(min(slots, 1), ceil(slots * share - 1e-9))
