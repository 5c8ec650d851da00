"""The interface of reducers, and the values that they exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from router.jobs.model import ItemResult


@dataclass(frozen=True, slots=True)
class Merge:
    """Asks for an item that merges texts into one; its result has the same key.

    key:   the same for the same rows in any order; a repeated key is ignored
    texts: at least two, in the order of their rows
    """

    key: str
    level: int
    group: int
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SkipSamples:
    """Tells that the row's remaining samples need not run."""

    group: int


ReducerEffect = Merge | SkipSamples


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial result.

    value:  a JSON value; None if the reducer has none
    covers: number of items in it
    offset: if it is the end of a long text, where it begins, in characters
    """

    value: object
    covers: int
    offset: int = 0


class Reducer(Protocol):
    """Combines results as they come; pure, with the same outcome for any order.

    Results may be repeated, and all are after a restart: state and effects must not
    depend on it.
    """

    def feed(self, index: int, result: ItemResult) -> tuple[ReducerEffect, ...]:
        """Add an item's result; only the first of each index counts."""

    def feed_merge(self, key: str, result: ItemResult) -> tuple[ReducerEffect, ...]:
        """Add the result of a `Merge`; after a restart also before its rows'."""

    def partial(self) -> Partial:
        """Return the partial result; small enough to be sent twice a second."""

    def output(self) -> object:
        """Return the end product as a JSON value; None if the results are it."""

    def finished(self) -> bool:
        """Say whether no further result can change the output."""


class SeenIndices:
    """A set of indices below `total`."""

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
        """Add an index; return False if it is known. Raises ValueError."""
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
    """Base of reducers without merges."""

    def __init__(self, total: int) -> None:
        self.seen = SeenIndices(total)

    def feed(self, index: int, result: ItemResult) -> tuple[ReducerEffect, ...]:
        if self.seen.add(index):
            self.take(index, result)
        return ()

    def take(self, index: int, result: ItemResult) -> None:
        """Add a result; each index comes once."""

    def feed_merge(self, key: str, result: ItemResult) -> tuple[ReducerEffect, ...]:
        raise ValueError(f"merge {key!r} was not asked for: {result.key!r}")

    def finished(self) -> bool:
        return self.seen.all
