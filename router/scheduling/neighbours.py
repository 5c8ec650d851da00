"""Which nodes a principal that takes more than its share leaves to others; pure.

Streams that share a node slow each other, and a slot that is taken is kept: beside a
flood that fills every slot, others wait for one and then share the node with three of
its streams. So a principal that asks for more than its share starts nothing where a
request runs of one that has less, nor on a few of the quickest nodes, as long as those
others come again and again. Others' nodes hold at most what its share leaves of the
slots, and while it has less than that share it uses them rather than wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, exp, sqrt
from typing import NamedTuple, Protocol

__all__ = ["FleetOrder", "Left", "Neighbours"]

_MEAN_SECONDS = 45.0  # over which the streams of a principal are averaged
_VAIN_SECONDS = 5.0  # for which a refused request counts as one that waits, about
_LEAST = 0.1  # streams on the mean, for which nodes are kept clear
_FORGOTTEN = 0.005  # streams on the mean
# For which an answer holds, and until so many requests have begun or ended of as many
# as there are slots: in a large fleet one makes no difference.
_KEPT_SECONDS = 1.0
_KEPT_CHANGES = 64
_MOST_KNOWN = 4096


class FleetOrder(Protocol):
    """What is read of the fleet and the queue."""

    @property
    def total(self) -> int:
        """Slots of all nodes that are not held."""

    def slots(self, node: str) -> int: ...

    def quickest(self, runner: str) -> Sequence[str]:
        """Return the nodes that may run it, the quickest first."""

    def streams_at_speed(self, runner: str) -> int:
        """Return how many streams a node runs at about the speed of one, at least 1."""

    def waiting(self, principal: str) -> int: ...


class Left(NamedTuple):
    """Nodes that a principal leaves to others.

    waits: whether it waits rather than start there, where no other node is free
    """

    nodes: frozenset[str] = frozenset()
    waits: bool = True


_NOTHING = Left()


@dataclass(slots=True)
class _Use:
    """What a principal has.

    mean:   streams, lately; right at `at`
    runner: what it asked for last
    vain:   requests that were refused lately, faded; right at `vain_at`
    """

    at: float
    runner: str = ""
    running: int = 0
    nodes: Counter[str] = field(default_factory=Counter)
    mean: float = 0.0
    vain: float = 0.0
    vain_at: float = 0.0

    def change(self, node: str, by: int, now: float) -> None:
        self.mean, self.at = self.mean_at(now), now
        self.running += by
        self.nodes[node] += by
        if not self.nodes[node]:
            del self.nodes[node]

    def mean_at(self, now: float) -> float:
        faded = exp((self.at - now) / _MEAN_SECONDS)
        return self.running + (self.mean - self.running) * faded

    def in_vain(self, now: float) -> float:
        return self.vain and self.vain * exp((self.vain_at - now) / _VAIN_SECONDS)


class _Asked(NamedTuple):
    """Nodes that a principal leaves, and its share of those that it could use."""

    until: float
    nodes: frozenset[str]
    share: int
    running: int


class Neighbours:
    """Who runs where, and who ran lately.

    clear:     how many nodes are kept clear for those that have less than their share,
               in proportion; 0: none but those where their requests run
    most_idle: slots that stay idle at most for each that those use, where `clear` is 0
               or no node can be spared; 0: nothing is left to anybody
    """

    def __init__(self, clear: float = 1.0, most_idle: float = 2.0) -> None:
        self.clear = clear
        self.most_idle = most_idle
        self._leases: dict[Hashable, tuple[str, str]] = {}
        self._uses: dict[str, _Use] = {}
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._changes = 0  # since then

    def began(
        self, running: Hashable, principal: str, node: str, runner: str, now: float
    ) -> None:
        self._leases[running] = principal, node
        use = self._uses.get(principal)
        if use is None:
            if len(self._uses) >= _MOST_KNOWN:
                self._forget(now, 1.0)
            use = self._uses[principal] = _Use(now)
        use.change(node, 1, now)
        use.runner = runner
        self._changes += 1

    def ended(self, running: Hashable, now: float) -> None:
        """Do nothing where it never began."""
        principal, node = self._leases.pop(running, ("", ""))
        if node:
            self._uses[principal].change(node, -1, now)
            self._changes += 1

    def refused(self, principal: str, now: float) -> None:
        """Count a request that was refused by a limit: it would wait otherwise."""
        use = self._uses.get(principal)
        if use is not None:
            use.vain, use.vain_at = use.in_vain(now) + 1, now

    def left(
        self, principal: str, runner: str, waiting: int, fleet: FleetOrder, now: float
    ) -> Left:
        """Return the nodes that a principal leaves to others.

        None while all that it waits for finds a slot, or it asks for no more than its
        share.
        """
        own = self._uses.get(principal)
        if own is None or len(self._uses) == 1 or not self.most_idle:
            return _NOTHING
        free = fleet.total - len(self._leases)
        wanted = waiting + own.in_vain(now)
        if free >= wanted:
            return _NOTHING
        if not self.clear:
            return self._where_others_run(own, fleet.total, free)
        if self._changes > fleet.total // _KEPT_CHANGES:
            self._asked.clear()
            self._changes = 0
        asked = self._asked.get((principal, runner))
        if asked is None or now > asked.until:
            asked = self._ask(principal, runner, fleet, now)
            self._asked[principal, runner] = asked
        if not asked.nodes or asked.running + wanted <= asked.share:
            return _NOTHING
        return Left(asked.nodes, waits=asked.running >= asked.share)

    def _where_others_run(self, own: _Use, total: int, free: int) -> Left:
        """Leave slots where others' requests run, so many for each of those."""
        running = [each for each in self._uses.values() if each.running]
        share = _share(total, len(running))
        small = [each for each in running if each.running < share]
        most = self.most_idle * sum(each.running for each in small)
        if own.running < share or free > most:
            return _NOTHING
        return Left(frozenset(node for each in small for node in each.nodes))

    def _ask(
        self, principal: str, runner: str, fleet: FleetOrder, now: float
    ) -> _Asked:
        own, slots = self._uses[principal], _Slots(runner, fleet)
        self._forget(now, _FORGOTTEN)
        active = sum(1 for each in self._uses.values() if each.running)
        active = max(2, active + (not own.running))
        small, large = self._others(principal, _share(fleet.total, active), fleet, now)
        share = _share(slots.room, active)
        slots.room -= share * (1 + large)
        busy: Counter[str] = Counter()
        means: Counter[str] = Counter()
        for each in small:
            busy.update(each.nodes)
            means[each.runner] += each.mean_at(now)  # type: ignore[assignment]
        nodes = frozenset(self._others_nodes(slots, fleet, busy, means))
        free = fleet.total - len(self._leases)
        if not nodes and free <= self.most_idle * busy.total():  # a fleet of one node
            nodes = frozenset(busy.keys() & slots.of.keys())
        running = sum(n for node, n in own.nodes.items() if node in slots.of)
        return _Asked(now + _KEPT_SECONDS, nodes, share, running)

    def _others(
        self, principal: str, share: int, fleet: FleetOrder, now: float
    ) -> tuple[list[_Use], int]:
        """Return who has less than a share on the mean, and how many want more.

        Who asks for twice its share wants more; a burst does not.
        """
        small, large = [], 0
        for name, each in self._uses.items():
            if name == principal:
                continue
            wanted = each.running + fleet.waiting(name) + each.in_vain(now)
            if wanted < 2 * share and each.mean_at(now) < share:
                small.append(each)
            else:
                large += 1
        return small, large

    def _others_nodes(
        self,
        slots: _Slots,
        fleet: FleetOrder,
        busy: Counter[str],
        means: Counter[str],
    ) -> Iterator[str]:
        """Yield nodes where others run and clear ones, as far as there is room."""
        for runner, mean in means.items():
            clear = 0
            if mean > _LEAST:
                streams = self.clear * (1 + sqrt(mean) / 4)
                clear = ceil(streams / fleet.streams_at_speed(runner))
            for node in fleet.quickest(runner):
                if node not in busy:
                    if not clear:
                        continue
                    clear -= 1
                if slots.take(node):
                    yield node
        for node in busy:
            if slots.take(node):
                yield node

    def _forget(self, now: float, least: float) -> None:
        """Forget who has nothing, and had less than this on the mean."""
        for principal in [
            name
            for name, each in self._uses.items()
            if not each.running and each.mean_at(now) < least
        ]:
            del self._uses[principal]


class _Slots:
    """The slots of the nodes that a principal could use.

    room: how many of them may be left to others
    """

    def __init__(self, runner: str, fleet: FleetOrder) -> None:
        self.of = {node: fleet.slots(node) for node in fleet.quickest(runner)}
        self.room = sum(self.of.values())
        self._taken: set[str] = set()

    def take(self, node: str) -> bool:
        """Leave a node to others; False where it is not there, is left or too large."""
        slots = self.of.get(node)
        if slots is None or node in self._taken or slots > self.room:
            return False
        self._taken.add(node)
        self.room -= slots
        return True


def _share(slots: int, principals: int) -> int:
    return -(-slots // principals)
