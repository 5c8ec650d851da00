"""What a reducer takes and gives; values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from router.jobs.model import ItemResult


@dataclass(frozen=True, slots=True)
class Merge:
    """Ask a model to make one text of these; its answer comes back by the key.

    key:   the same for the same rows, however often and in whichever order it is
           asked for; whoever has an item of this key ignores it
    texts: in the order of their rows, at least two
    """

    key: str
    level: int
    group: int
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SkipSamples:
    """The samples of this row that have not run need not run."""

    group: int


ReducerEffect = Merge | SkipSamples


@dataclass(frozen=True, slots=True)
class Partial:
    """What can be read now.

    value:  a JSON value; None for who has none
    covers: items that it speaks of
    offset: of a text that is a long one's end: where it begins, in characters
    """

    value: object
    covers: int
    offset: int = 0


class Reducer(Protocol):
    """Puts results together as they come; pure, and the same for any order.

    Each result may come again, and after a restart all do: the state and the
    effects do not depend on it.
    """

    def feed(self, index: int, result: ItemResult) -> tuple[ReducerEffect, ...]:
        """Take the result of an item, the first that comes of each index."""

    def feed_merge(self, key: str, result: ItemResult) -> tuple[ReducerEffect, ...]:
        """Take the answer to a `Merge`, also before its rows are here again."""

    def partial(self) -> Partial:
        """Return what there is so far; small enough to be sent twice a second."""

    def output(self) -> object:
        """Return the end product as a JSON value; None: the results are it."""

    def finished(self) -> bool:
        """Say whether nothing that may still come would change the output."""


class SeenIndices:
    """Which of so many indices have come."""

    def __init__(self, total: int) -> None:
        self._flags = bytearray(total)
        self.count = 0

    @property
    def total(self) -> int:
        return len(self._flags)

    @property
    def all(self) -> bool:
        return self.count == len(self._flags)

    def add(self, index: int) -> bool:
        """Note an index; False if it has come before. Raises ValueError."""
        if not 0 <= index < len(self._flags):
            raise ValueError(f"item {index} is none of {len(self._flags)}")
        if self._flags[index]:
            return False
        self._flags[index] = 1
        self.count += 1
        return True

    def __contains__(self, index: int) -> bool:
        return 0 <= index < len(self._flags) and bool(self._flags[index])


class Rowwise:
    """What reducers share that ask for no merges."""

    def __init__(self, total: int) -> None:
        self.seen = SeenIndices(total)

    def feed(self, index: int, result: ItemResult) -> tuple[ReducerEffect, ...]:
        if self.seen.add(index):
            self.take(index, result)
        return ()

    def take(self, index: int, result: ItemResult) -> None:
        """Take a result that has not come before."""

    def feed_merge(self, key: str, result: ItemResult) -> tuple[ReducerEffect, ...]:
        raise ValueError(f"merge {key!r} was not asked for: {result.key!r}")

    def finished(self) -> bool:
        return self.seen.all
