"""Reducers: how the results of a job become one thing while it runs.

One file each, and the table below. Pure: what they need done is an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from router.errors import ReducerError
from router.jobs.model import Item, ItemKind
from router.jobs.reducers.concat import concat
from router.jobs.reducers.count import count
from router.jobs.reducers.faces import (
    Merge,
    Partial,
    Reducer,
    ReducerEffect,
    SkipSamples,
)
from router.jobs.reducers.keep import keep
from router.jobs.reducers.spec import Spec
from router.jobs.reducers.stats import stats
from router.jobs.reducers.tree import FIRST_MERGE, threshold_of, tree
from router.jobs.reducers.vote import samples_of, vote

__all__ = [
    "REDUCERS",
    "Merge",
    "Partial",
    "Reducer",
    "ReducerEffect",
    "SkipSamples",
    "check",
    "opens",
    "reducer_for",
    "samples",
    "wave",
]

REDUCERS: Mapping[str, Callable[[Spec, int], Reducer]] = {
    "map": keep,
    "concat": concat,
    "stats": stats,
    "count": count,
    "vote": vote,
    "tree": tree,
}
# In a text that grows from its beginning, rows far behind can wait.
_CONCAT_BLOCK = 64


def reducer_for(given: Mapping[str, object], total: int) -> Reducer:
    """Build the reducer of a job with so many items. Raises ReducerError."""
    spec = Spec(given)
    if not isinstance(spec.kind, str) or spec.kind not in REDUCERS:
        known = ", ".join(REDUCERS)
        raise ReducerError(f"reducer.kind: must be one of {known}, got {spec.kind!r}")
    return REDUCERS[spec.kind](spec, total)


def check(given: Mapping[str, object]) -> None:
    """Raise ReducerError, naming the field, where no job could be reduced so."""
    reducer_for(given, 0)


def samples(given: Mapping[str, object]) -> int:
    """Return how many items each row becomes."""
    return samples_of(Spec(given)) if given.get("kind") == "vote" else 1


def wave(given: Mapping[str, object], index: int) -> int:
    """Tell which items should run before others, lower first.

    Longest first alone would finish a tree's groups all at the end, and leave no
    sample of a vote to be spared.
    """
    spec = Spec(given)
    if spec.kind == "tree":
        return index // threshold_of(spec)
    if spec.kind == "concat":
        return index // _CONCAT_BLOCK
    if spec.kind == "vote":
        number = samples_of(spec)
        return int(index % number > number // 2)
    return 0


def opens(given: Mapping[str, object], item: Item) -> bool:
    """Tell whether the first partial result waits for this item."""
    spec = Spec(given)
    if item.kind is ItemKind.MERGE:
        return item.key == FIRST_MERGE
    if spec.kind == "tree":
        return item.index < threshold_of(spec)
    if spec.kind == "vote":
        return item.index <= samples_of(spec) // 2
    return spec.kind == "concat" and item.index == 0
