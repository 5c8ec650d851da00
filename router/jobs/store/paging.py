"""Pages of a list by (created, id): steady while new ones come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select, tuple_

from router.errors import NotFoundError
from router.jobs.model import ResultPage


def paged(
    connection: Connection,
    query: Select[Any],
    table: Table,
    page: ResultPage,
    most: tuple[Callable[[Row[Any]], int], int] | None = None,
) -> tuple[Sequence[Row[Any]], bool]:
    """Return the rows of a page, and whether more follow. Raises NotFoundError.

    most: the size of a row, and sizes together after which a page ends early
    """
    place = (table.c.created, table.c.id)
    if page.after:
        found = connection.execute(
            select(*place).where(table.c.id == page.after)
        ).one_or_none()
        if found is None:
            raise NotFoundError(f"after: nothing has the id {page.after!r}")
        here, there = tuple_(*place), tuple_(*found)
        query = query.where(here > there if page.oldest_first else here < there)
    order = [column if page.oldest_first else column.desc() for column in place]
    size_of, largest = most or (lambda _: 0, 1)
    rows: list[Row[Any]] = []
    size = 0
    with connection.execute(query.order_by(*order).limit(page.limit + 1)) as answer:
        for row in answer:
            if len(rows) == page.limit or size >= largest:
                return rows, True
            rows.append(row)
            size += size_of(row)
    return rows, False
