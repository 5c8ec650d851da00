"""What pushing a model out of a node's memory costs, and when it may be done; pure.

The price is in the squared seconds of `completion`: those who come until it is loaded
again wait for that load. Where other copies can carry them, they wait a little longer
for those.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from math import exp
from typing import NamedTuple, Protocol

from router.scheduling.demand import Demand
from router.scheduling.residency import Residency, Standing

_FIRST_TOKEN = 9.0  # as `completion` has it
_LIKELY_SECONDS = 60.0  # within which a model has to be asked for to be missed
_CHAIN = 2.0  # loading it again pushes out the next


class Victim(NamedTuple):
    """A model that would go: its users, and what is left to them.

    per_second: requests
    left:       other copies
    load:       seconds to load it again
    lost:       what its users lost of late that hangs on this copy, squared seconds
    """

    per_second: float
    left: int
    load: float
    lost: float


def price(victim: Victim) -> float:
    """Return what its users lose, in squared seconds.

    Where other copies are left, as much again as hangs on this one; else all who come
    while it is loaded again wait for that.
    """
    if victim.left > 0:
        return victim.lost
    likely = 1 - exp(-victim.per_second * _LIKELY_SECONDS)
    waiting = 1 + victim.per_second * victim.load
    return _CHAIN * likely * waiting * _FIRST_TOKEN * victim.load * victim.load


# A model whose only copy it is stays for so many seconds after it was loaded, while
# others wait for it: with 5 s for a load, a fifth of the time is spent on loading.
_TURN_SECONDS = 20.0
_MINUTE = 60.0
# Of a fleet's nodes, those that may lose a model that is in use within a minute for one
# that has a copy elsewhere.
_SHARE = 1 / 8
_IN_USE = 1 / 120  # requests a second


class Permit(IntEnum):
    """Whether a model may be loaded where others go for it.

    STRANDED: only by who can go to no node that holds a copy
    """

    NO = 0
    STRANDED = 1
    YES = 2


class WaitingView(Protocol):
    """What is read of the queue (`router.scheduling.queue.Queue`)."""

    version: int

    def wanted(self, runner: str) -> bool: ...


class _Nobody:
    version = 0

    def wanted(self, _: str) -> bool:
        return False


class Evictions:
    """Says which may be begun: so many a minute over the fleet, and in turns.

    waiting: for which models anybody waits
    """

    def __init__(self, residency: Residency, demand: Demand) -> None:
        self.waiting: WaitingView = _Nobody()
        self._residency = residency
        self._demand = demand
        self._begun: deque[float] = deque(maxlen=1000)

    def begun(self, now: float) -> None:
        """Take note of one that costs its users something."""
        self._begun.append(now)

    def permit(
        self, node: str, runner: str, standing: Standing, nodes: int, now: float
    ) -> Permit:
        """Say whether one of so many nodes may load a model, for which others go."""
        copies, victims = self._residency.copies, standing.victims
        if copies[runner] > 0:
            if not any(self._demand.per_second(v, now) > _IN_USE for v in victims):
                return Permit.YES
            while self._begun and self._begun[0] <= now - _MINUTE:
                self._begun.popleft()
            if len(self._begun) < max(1, nodes * _SHARE):
                return Permit.YES
        if now - self._residency.loaded_at(node) < _TURN_SECONDS and any(
            copies[v] == 1 and self.waiting.wanted(v) for v in victims
        ):
            return Permit.NO
        return Permit.STRANDED if copies[runner] > 0 else Permit.YES
