"""Pages of a list by (created, id), which stay stable while rows are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select, tuple_

from router.errors import NotFoundError
from router.jobs.model import ResultPage


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page may contain.

    account: rows of this owner; None: of all
    most:    returns the size of a row, and the total after which a page ends early
    """

    account: str | None = None
    most: tuple[Callable[[Row[Any]], int], int] = (lambda _: 0, 1)


def paged(
    connection: Connection,
    query: Select[Any],
    table: Table,
    page: ResultPage,
    seen: Seen,
) -> tuple[Sequence[Row[Any]], bool]:
    """Return the rows of a page, and whether more follow. Raises NotFoundError."""
    place = (table.c.created, table.c.id)
    start = select(*place).where(table.c.id == page.after)
    if seen.account is not None:
        query = query.where(table.c.account == seen.account)
        start = start.where(table.c.account == seen.account)
    if page.after:
        found = connection.execute(start).one_or_none()
        if found is None:
            raise NotFoundError(f"after: nothing has the id {page.after!r}")
        here, there = tuple_(*place), tuple_(*found)
        query = query.where(here > there if page.oldest_first else here < there)
    order = [column if page.oldest_first else column.desc() for column in place]
    size_of, largest = seen.most
    rows: list[Row[Any]] = []
    size = 0
    with connection.execute(query.order_by(*order).limit(page.limit + 1)) as answer:
        for row in answer:
            if len(rows) == page.limit or size >= largest:
                return rows, True
            rows.append(row)
            size += size_of(row)
    return rows, False
