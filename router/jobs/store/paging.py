"""Pages of a list by (created, id): steady while new ones come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select, tuple_

from router.errors import NotFoundError
from router.jobs.model import Page


def paged(
    connection: Connection, query: Select[Any], table: Table, page: Page
) -> tuple[Sequence[Row[Any]], bool]:
    """Return the rows of a page, and whether more follow. Raises NotFoundError."""
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
    rows = connection.execute(query.order_by(*order).limit(page.limit + 1)).all()
    return rows[: page.limit], len(rows) > page.limit
