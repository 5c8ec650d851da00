"""The table of results, read page by page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, tuple_

from router.jobs.model import ItemKind, ItemResult, ItemState
from router.jobs.store.encoding import read_result
from router.jobs.store.tables import RESULTS

# A page ends early if its replies are large: it is held in memory.
_PAGE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ResultCursor:
    """A page in input order begins after this row and sequence number."""

    row: int = -1
    seq: int = 0


def in_order(
    connection: Connection,
    job: str,
    states: Collection[ItemState],
    after: ResultCursor,
    limit: int,
) -> tuple[list[ItemResult], ResultCursor | None]:
    """Return a page of results in input order, and the next page's cursor."""
    query = (
        select(RESULTS)
        .where(
            RESULTS.c.job == job,
            RESULTS.c.kind == ItemKind.ROW.value,
            RESULTS.c.state.in_([state.value for state in states]),
            tuple_(RESULTS.c.row, RESULTS.c.seq) > tuple_(after.row, after.seq),
        )
        .order_by(RESULTS.c.row, RESULTS.c.seq)
        .limit(limit)
    )
    rows, more = _within_bytes(connection, query, limit)
    place = ResultCursor(rows[-1].row, rows[-1].seq) if rows and more else None
    return [read_result(row) for row in rows], place


def as_they_came(
    connection: Connection, job: str, after: int, limit: int
) -> tuple[list[ItemResult], int]:
    """Return results after the sequence number `after`, and the last number.

    Numbers follow the order of commits, so that no result appears before one that was
    already read.
    """
    query = (
        select(RESULTS)
        .where(RESULTS.c.job == job, RESULTS.c.seq > after)
        .order_by(RESULTS.c.seq)
        .limit(limit)
    )
    rows, _ = _within_bytes(connection, query, limit)
    return [read_result(row) for row in rows], rows[-1].seq if rows else after


def _within_bytes(connection: Connection, query: Any, limit: int) -> Any:
    rows = []
    size = 0
    with connection.execute(query) as found:
        for row in found:
            rows.append(row)
            size += len(row.body) + len(row.text)
            if size > _PAGE_BYTES:
                return rows, True
    return rows, len(rows) == limit


def tokens(connection: Connection, job: str) -> tuple[int, int]:
    """Return the tokens of prompts and of answers so far."""
    query = select(
        func.coalesce(func.sum(RESULTS.c.prompt_tokens), 0),
        func.coalesce(func.sum(RESULTS.c.generated_tokens), 0),
    ).where(RESULTS.c.job == job)
    prompt, generated = connection.execute(query).one()
    return int(prompt), int(generated)
