"""Reducers: combine the results of a job while it runs.

One file each, listed in the table below. They are pure: they return effects.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.errors import ReducerError
from router.jobs.model import Item, ItemKind
from router.jobs.reducers import concat, count, keep, stats, tree, vote
from router.jobs.reducers.kind import ReducerKind
from router.jobs.reducers.protocols import (
    Merge,
    Partial,
    Reducer,
    ReducerEffect,
    SkipSamples,
)
from router.jobs.reducers.spec import Spec

__all__ = [
    "REDUCERS",
    "Merge",
    "Partial",
    "Reducer",
    "ReducerEffect",
    "ReducerKind",
    "SkipSamples",
    "check",
    "kinds_with",
    "opens",
    "reducer_for",
    "samples",
    "wave",
]

REDUCERS: Mapping[str, ReducerKind] = {
    "map": keep.KIND,
    "tree": tree.KIND,
    "concat": concat.KIND,
    "count": count.KIND,
    "stats": stats.KIND,
    "vote": vote.KIND,
}


def reducer_for(given: Mapping[str, object], total: int) -> Reducer:
    """Build the reducer of a job with so many items. Raises ReducerError."""
    spec = Spec(given)
    return _kind(spec).build(spec, total)


def check(given: Mapping[str, object]) -> None:
    """Raise ReducerError, which names the field, if the terms are invalid."""
    reducer_for(given, 0)


def samples(given: Mapping[str, object]) -> int:
    """Return how many items each row becomes. Raises ReducerError."""
    spec = Spec(given)
    return _kind(spec).samples(spec)


def wave(given: Mapping[str, object], index: int) -> int:
    """Return an item's wave; items of lower waves run first. Raises ReducerError.

    With the longest first alone, all groups of a tree would be completed at the end,
    and no sample of a vote could be skipped.
    """
    spec = Spec(given)
    return _kind(spec).wave(spec, index)


def opens(given: Mapping[str, object], item: Item) -> bool:
    """Say whether the first partial result waits for this item. Raises ReducerError."""
    spec = Spec(given)
    if item.kind is ItemKind.MERGE:
        return item.key == tree.FIRST_MERGE
    return _kind(spec).first(spec, item.index)


def kinds_with(field: str) -> tuple[str, ...]:
    """Name the kinds that take a field."""
    return tuple(name for name, kind in REDUCERS.items() if field in kind.fields)


def _kind(spec: Spec) -> ReducerKind:
    if not isinstance(spec.kind, str) or spec.kind not in REDUCERS:
        known = ", ".join(REDUCERS)
        raise ReducerError(f"reducer.kind: must be one of {known}, got {spec.kind!r}")
    return REDUCERS[spec.kind]
