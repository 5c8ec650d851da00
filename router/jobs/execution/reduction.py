"""Feeds a job's results to its reducer while the job runs, and stores its effects.

The reducer works in a native thread, a page at a time. Its state is not stored: after a
restart it is fed all results again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial

from sqlalchemy import Connection

from router.jobs.input.prompts import merge_item
from router.jobs.model import (
    NOT_NEEDED,
    ItemFault,
    ItemKind,
    ItemResult,
    JobSpec,
    NewItem,
)
from router.jobs.reducers import (
    Merge,
    Partial,
    Reducer,
    ReducerEffect,
    SkipSamples,
    samples,
)
from router.jobs.store import items, results
from router.jobs.store.database import JobDatabase
from router.runtime.threads import JOBS

_PAGE = 200
_NOT_NEEDED = ItemFault(NOT_NEEDED, "the row was decided without this sample")


class Reduction:
    """One job's reducer, and how far it has been fed.

    asked: whether items were added or cancelled for the reducer
    """

    def __init__(
        self, job: str, spec: JobSpec, reducer: Reducer, database: JobDatabase
    ) -> None:
        self._job = job
        self._spec = spec
        self._reducer = reducer
        self._database = database
        self._after = 0
        self._partial: Partial | None = None
        self.asked = False

    def feed(self) -> frozenset[int]:
        """Feed new results; return the rows that are decided. Raises StoreError."""
        settled: set[int] = set()
        while True:
            page, last = self._database.read(self._next_page)
            if not page:
                return frozenset(settled)
            effects = JOBS(partial(self._take, page))
            # Stored before the position: a router killed here feeds the page again.
            settled |= self._keep(effects)
            self._after = last
            self._partial = None

    def _next_page(self, connection: Connection) -> tuple[list[ItemResult], int]:
        return results.as_they_came(connection, self._job, self._after, _PAGE)

    def partial(self) -> Partial:
        if self._partial is None:
            self._partial = JOBS(self._reducer.partial)
        return self._partial

    def output(self) -> object:
        return JOBS(self._reducer.output)

    @property
    def finished(self) -> bool:
        return self._reducer.finished()

    def _take(self, page: Sequence[ItemResult]) -> list[ReducerEffect]:
        effects: list[ReducerEffect] = []
        for result in page:
            if result.kind is ItemKind.MERGE:
                effects += self._reducer.feed_merge(result.key, result)
            elif result.error is None or result.error.code != NOT_NEEDED:
                effects += self._reducer.feed(result.index, result)
        return effects

    def _keep(self, effects: Iterable[ReducerEffect]) -> set[int]:
        merges = [
            merge_item(self._spec, each.key, each.group, each.texts)
            for each in effects
            if isinstance(each, Merge)
        ]
        groups = {each.group for each in effects if isinstance(each, SkipSamples)}
        if merges or groups:
            self._database.write(lambda c: self._write(c, merges, groups))
            self.asked = True
        return groups

    def _write(
        self, connection: Connection, merges: list[NewItem], groups: set[int]
    ) -> None:
        now = time.time()
        items.add(connection, self._job, merges, now)
        count = samples(self._spec.reducer)
        for group in groups:
            rows = range(group * count, (group + 1) * count)
            items.call_off(
                connection, self._job, _NOT_NEEDED, now=now, limit=count, rows=rows
            )
