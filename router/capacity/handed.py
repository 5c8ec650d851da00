"""Slots that two routers share while one hands over to the other; pure.

The one that leaves may use what it uses already, and what the one that comes cedes to
it; whatever it gives up it never takes again. So each is safe with what it last heard
of the other, however old that is, and no node is asked for more than its slots.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from router.capacity.recovered import RecoveredInFlight

__all__ = ["GivenUp", "OfPredecessor", "ceded"]


class OfPredecessor(RecoveredInFlight):
    """What the router that leaves may use: to the one that comes, it is taken."""

    def count(self, node: str, _now: float) -> int:
        return self.counts.get(node, 0)

    def looked(
        self, node: str, resident: Collection[str], idle: Collection[str]
    ) -> None:
        """Believe the other router, not the polls: it says what it uses."""


class GivenUp(RecoveredInFlight):
    """What the router that leaves may not use any more; all but its own.

    slots: the ceiling of a node, which may change meanwhile
    """

    def __init__(self, slots: Callable[[str], int], own: Mapping[str, int]) -> None:
        super().__init__()
        self._slots = slots
        self.keep(own)

    def keep(self, own: Mapping[str, int]) -> None:
        """Have so many slots from now on, by node; none where it is not named."""
        self._own = dict(own)
        self.counts = {name: self._slots(name) for name in own}

    def count(self, node: str, _now: float) -> int:
        return max(0, self._slots(node) - self._own.get(node, 0))

    def looked(
        self, node: str, resident: Collection[str], idle: Collection[str]
    ) -> None:
        """Take nothing back because of a poll."""


def ceded(waiting: int, free: Mapping[str, int]) -> dict[str, int]:
    """Say on which nodes a slot each goes to who waits at the other router."""
    roomy = sorted((name for name in free if free[name] > 0), key=lambda n: -free[n])
    return dict.fromkeys(roomy[:waiting], 1)
