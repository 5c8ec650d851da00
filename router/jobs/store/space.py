"""What the job database takes on the disk, and giving back what it no longer needs.

PostgreSQL does the latter by itself. SQLite keeps free pages in its file unless it is
told otherwise before it has any tables, or is written anew.
"""

from __future__ import annotations

import contextlib

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from router.jobs.store.tables import FILES, METADATA

_INCREMENTAL = 2
# A larger file is not written anew at a start: that takes seconds, and as much again.
_MOST_BYTES_WRITTEN_ANEW = 256 * 1024 * 1024
_PAGES = 500  # 2 MB: given back in one piece, while nothing else is written
_SPARE_PAGES = 256  # are kept: new rows take them


def make_shrinkable(connection: Connection) -> None:
    """Let SQLite's file get smaller; outside of a transaction, before the tables."""
    if _number(connection, "auto_vacuum") == _INCREMENTAL:
        return
    connection.exec_driver_sql(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    if 0 < _sqlite_bytes(connection) <= _MOST_BYTES_WRITTEN_ANEW:
        # On a full disk it stays as it was: it serves all the same.
        with contextlib.suppress(SQLAlchemyError):
            connection.exec_driver_sql("VACUUM")


def shrink(connection: Connection) -> bool:
    """Give a piece of what is free back to the disk; True when no more is to be had."""
    if connection.dialect.name != "sqlite":
        return True
    free = _number(connection, "freelist_count") - _SPARE_PAGES
    if free <= 0 or _number(connection, "auto_vacuum") != _INCREMENTAL:
        return True
    # Python's driver takes a single step of what returns no rows: one page.
    driver = connection.connection.cursor()
    for _ in range(min(free, _PAGES)):
        driver.execute("PRAGMA incremental_vacuum(1)")
    return free <= _PAGES


def store_bytes(connection: Connection) -> int:
    """Return what jobs, items and results take in the database."""
    if connection.dialect.name == "sqlite":
        return _sqlite_bytes(connection)
    sizes = (func.pg_total_relation_size(name) for name in METADATA.tables)
    return sum(int(connection.execute(select(size)).scalar_one()) for size in sizes)


def file_bytes(connection: Connection) -> int:
    """Return what uploaded files take; outputs are made of the results."""
    query = select(func.coalesce(func.sum(FILES.c.size), 0)).where(FILES.c.job == "")
    return int(connection.execute(query).scalar_one())


def _sqlite_bytes(connection: Connection) -> int:
    return _number(connection, "page_count") * _number(connection, "page_size")


def _number(connection: Connection, pragma: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one())
