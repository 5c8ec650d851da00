"""The usage ledger on disk: a row for each request, and the energy of each node."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router.logs.events import get_logger
from router.runtime.sqlite_file import open_or_replace
from router.usage.account import COLUMNS, RUNNING, UsageRow
from router.usage.ledger import NodeEnergy
from router.usage.report import NODE_TOTALS, UsageQuery, statement

FILE = "usage.sqlite"
LOST = "lost"  # the router died while the request ran
_SCHEMA = 1
_TABLES = (
    """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, principal TEXT NOT NULL,
    name TEXT NOT NULL, request_id TEXT NOT NULL, path TEXT NOT NULL,
    model TEXT NOT NULL, node TEXT NOT NULL, status INTEGER NOT NULL,
    outcome TEXT NOT NULL, attempts INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL, queue_seconds REAL NOT NULL,
    prefill_seconds REAL NOT NULL, decode_seconds REAL NOT NULL,
    seconds REAL NOT NULL, node_seconds REAL NOT NULL, joules REAL
) STRICT
""",
    "CREATE INDEX IF NOT EXISTS requests_at ON requests (at)",
    """
CREATE TABLE IF NOT EXISTS node_energy (
    day TEXT NOT NULL, node TEXT NOT NULL, metered REAL NOT NULL, idle REAL NOT NULL,
    PRIMARY KEY (day, node)
) STRICT
""",
)
_LATER = COLUMNS[COLUMNS.index("node") :]  # what changes after a request came
_INSERT = (
    f"INSERT INTO requests ({', '.join(COLUMNS)})"  # noqa: S608 - fixed
    f" VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE"
    f" SET {', '.join(f'{name} = excluded.{name}' for name in _LATER)}"
)
_ADD = (
    "INSERT INTO node_energy VALUES (?, ?, ?, ?) ON CONFLICT (day, node) DO UPDATE"
    " SET metered = metered + excluded.metered, idle = idle + excluded.idle"
)
_LOST = "UPDATE requests SET outcome = ? WHERE outcome = ? AND id < ?"
_OLDEST = (
    "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE at < ? LIMIT ?)"
)
_AT_ONCE = 5000


class UsageStore:
    """One file in `folder`; every call raises StateError."""

    def __init__(self, folder: Path) -> None:
        self._file = open_or_replace(
            folder / FILE,
            _TABLES,
            _SCHEMA,
            replaced=lambda error, aside: get_logger("usage").error(
                "usage_damaged", fault=str(error), kept_as=str(aside)
            ),
        )

    def begin(self, first_id: int) -> int:
        """Mark requests that a router that died left running; return how many.

        first_id: of this router's rows
        """

        def mark(database: sqlite3.Connection) -> int:
            return database.execute(_LOST, (LOST, RUNNING, first_id)).rowcount

        return self._file.write(mark)

    def write(
        self, rows: Sequence[UsageRow], energy: Mapping[str, NodeEnergy], at: float
    ) -> None:
        """Insert or replace rows, and add the energy counted up to `at`."""
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        added = [(day, node, e.metered, e.idle) for node, e in energy.items()]

        def insert(database: sqlite3.Connection) -> None:
            database.executemany(_INSERT, rows)
            database.executemany(_ADD, added)

        self._file.write(insert)

    def forget(self, before: float) -> int:
        """Delete some of the rows before that time; return how many."""

        def delete(database: sqlite3.Connection) -> int:
            return database.execute(_OLDEST, (before, _AT_ONCE)).rowcount

        return self._file.write(delete)

    def totals(self, query: UsageQuery) -> list[tuple[Any, ...]]:
        """Return a row for each group: its names, then `report.SUMS`."""
        return self._file.read(*statement(query))

    def node_energy(self, query: UsageQuery) -> list[tuple[Any, ...]]:
        """Return node, metered and idle joules for the days of the query."""
        days = query.days
        return self._file.read(NODE_TOTALS, (*days, query.node, query.node))

    def close(self) -> None:
        self._file.close()
