"""Measures the job database's space on disk, and returns what is free.

PostgreSQL returns space by itself. SQLite keeps free pages in its file unless that is
set before the first table, or the file is rewritten.
"""

from __future__ import annotations

import contextlib

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from router.jobs.store.tables import FILES, METADATA

_INCREMENTAL = 2
# A larger file is not rewritten at start: that takes seconds and as much space again.
_MOST_BYTES_WRITTEN_ANEW = 256 * 1024 * 1024
_PAGES = 500  # 2 MB: given back in one piece, while nothing else is written
_SPARE_PAGES = 256  # are kept: new rows take them


def make_shrinkable(connection: Connection) -> None:
    """Allow SQLite's file to shrink; outside a transaction, before the tables exist."""
    if _number(connection, "auto_vacuum") == _INCREMENTAL:
        return
    connection.exec_driver_sql(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    if 0 < _sqlite_bytes(connection) <= _MOST_BYTES_WRITTEN_ANEW:
        # On a full disk the file stays as it is, and works.
        with contextlib.suppress(SQLAlchemyError):
            connection.exec_driver_sql("VACUUM")


def shrink(connection: Connection) -> bool:
    """Return some free pages to the disk; True if no more are left."""
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
    """Return the bytes of the database."""
    if connection.dialect.name == "sqlite":
        return _sqlite_bytes(connection)
    sizes = (func.pg_total_relation_size(name) for name in METADATA.tables)
    return sum(int(connection.execute(select(size)).scalar_one()) for size in sizes)


def file_bytes(connection: Connection) -> int:
    """Return the bytes of uploaded files; outputs are made of results."""
    query = select(func.coalesce(func.sum(FILES.c.size), 0)).where(FILES.c.job == "")
    return int(connection.execute(query).scalar_one())


def _sqlite_bytes(connection: Connection) -> int:
    return _number(connection, "page_count") * _number(connection, "page_size")


def _number(connection: Connection, pragma: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one())
