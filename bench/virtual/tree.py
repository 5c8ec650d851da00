"""Partial texts merged while others are made, beside merging in the end.

The groups are those of the router's own reducer `tree`; a text stands for its
length only. An answer to a merge is as long as some item's, its prompt as long as
the texts in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.virtual.runner import Fleet, VirtualRunner
from router.jobs.model import Item, ItemKind, ItemResult
from router.jobs.reducers import opens
from router.jobs.reducers.protocols import Merge, ReducerEffect
from router.jobs.reducers.tree import Tree
from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.workload import Ask

_INSTRUCTION = 60  # tokens


class When(StrEnum):
    """When partial texts are merged."""

    AT_ONCE = "as groups fill"
    AFTER = "after all, by groups"  # the same merges, over the whole fleet
    IN_TURN = "after all, one by one"  # one merge at a time, as a loop would do


@dataclass(frozen=True, slots=True)
class Summary:
    """Seconds in all, and rows done when the first merged text could be read."""

    seconds: float
    first_at: int
    merges: int


class TreeJob:
    """One job whose reducer asks for merges."""

    def __init__(
        self,
        specs: Sequence[Spec],
        scaling: Scaling,
        rows: Sequence[Ask],
        lengths: Sequence[int],
        *,
        threshold: int,
        when: When,
    ) -> None:
        self._rows = rows
        self._lengths = lengths  # of the merges' answers
        self._when = when
        self._spec = {"kind": "tree", "threshold": threshold}
        self._tree = Tree(threshold, len(rows))
        self._merges: dict[int, tuple[str, int]] = {}  # by item: key and length
        self._held: list[Merge] = []
        self._rows_done = 0
        self._first_at = 0
        self.clock = Clock()
        fleet = Fleet(specs, scaling, self.clock)
        self.runner = VirtualRunner(
            fleet, rows, answered=self._ended, opens=self._opens
        )

    def run(self) -> Summary:
        self.runner.tick()
        self.clock.run(done=self._tree.finished)
        return Summary(self.clock.now, self._first_at, len(self._merges))

    def _ended(self, item: int) -> Sequence[Ask]:
        if item in self._merges:
            key, length = self._merges[item]
            self._first_at = self._first_at or self._rows_done
            result = _result(key, ItemKind.MERGE, 0, length)
            self._hold(self._tree.feed_merge(key, result))
        else:
            self._rows_done += 1
            length = self._rows[item].tokens
            result = _result(str(item), ItemKind.ROW, item, length)
            self._hold(self._tree.feed(item, result))
        return [self._ask(merge) for merge in self._ready()]

    def _opens(self, item: int) -> bool:
        key, _ = self._merges.get(item, (str(item), 0))
        kind = ItemKind.MERGE if item in self._merges else ItemKind.ROW
        return opens(self._spec, Item(item, "", key, kind, item, "", "", "", 0, 0.0))

    def _hold(self, effects: Sequence[ReducerEffect]) -> None:
        self._held += [each for each in effects if isinstance(each, Merge)]

    def _ready(self) -> list[Merge]:
        if self._when is not When.AT_ONCE and self._rows_done < len(self._rows):
            return []
        ready, self._held = self._held, []
        if self._when is When.IN_TURN:
            ready, self._held = ready[:1], ready[1:]
        return ready

    def _ask(self, merge: Merge) -> Ask:
        number = len(self._merges)
        length = self._lengths[number % len(self._lengths)]
        self._merges[len(self._rows) + number] = (merge.key, length)
        return Ask(_INSTRUCTION + sum(map(int, merge.texts)), length)


def _result(key: str, kind: ItemKind, index: int, length: int) -> ItemResult:
    return ItemResult(
        key=key,
        kind=kind,
        index=index,
        custom_id=key,
        status=200,
        body=b"",
        text=str(length),
        node="",
    )
