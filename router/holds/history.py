"""The history of holds on disk: who, why, since, until; the newest ones.

It is for people, and for counting how often a node came back: a file that is
damaged is put aside and begun anew, since no node may stay out, or the router
down, for want of its history.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.errors import StateError
from router.holds.journal import hold_of, row_of
from router.holds.record import Change, Event
from router.holds.sqlite import Database
from router.logs.events import get_logger

__all__ = ["Query", "SqliteArchive"]

_SCHEMA = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL, change TEXT NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL,
    node TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    reason TEXT NOT NULL, since REAL NOT NULL, until REAL,
    state TEXT NOT NULL, clear TEXT NOT NULL, labels TEXT NOT NULL
) STRICT
"""
_INDEX = "CREATE INDEX IF NOT EXISTS events_of_node ON events (node, id)"
_COLUMNS = "node, kind, source, reason, since, until, state, clear, labels"
_INSERT = (
    f"INSERT INTO events (at, change, by, why, {_COLUMNS})"  # noqa: S608 - no input
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_TRIM = "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?"


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are wanted; None and an empty text let all through.

    alert: the alert's name
    since, before: unix seconds
    """

    node: str = ""
    kind: str = ""
    change: str = ""
    alert: str = ""
    since: float | None = None
    before: float | None = None
    limit: int = 100


class SqliteArchive:
    """At most `most` events in one file; every error names that file."""

    def __init__(self, path: Path, most: Callable[[], int] = lambda: 10_000) -> None:
        self._most = most
        try:
            self._database = Database(path, (_TABLE, _INDEX), _SCHEMA)
        except StateError as error:
            get_logger("archive").error(
                "history was damaged, begun anew", why=str(error)
            )
            path.rename(path.with_name(f"{path.name}.damaged"))
            for beside in ("-wal", "-shm"):
                path.with_name(path.name + beside).unlink(missing_ok=True)
            self._database = Database(path, (_TABLE, _INDEX), _SCHEMA)

    def append(self, events: Sequence[Event]) -> None:
        """Keep events, oldest first, and drop the oldest beyond the bound."""
        rows = [(e.at, e.change.value, e.by, e.why, *row_of(e.hold)) for e in events]

        def insert(database: sqlite3.Connection) -> None:
            database.executemany(_INSERT, rows)
            database.execute(_TRIM, (self._most(),))

        self._database.write(insert)

    def find(self, query: Query) -> tuple[Event, ...]:
        """Give what matches, newest first, at most `limit`."""
        where, values = _conditions(query)
        rows = self._database.read(
            f"SELECT at, change, by, why, {_COLUMNS} FROM events"  # noqa: S608 - fixed texts only
            f"{where} ORDER BY id DESC LIMIT ?",
            (*values, query.limit),
        )
        return tuple(
            Event(at, Change(change), hold_of(hold), by, why)  # type: ignore[arg-type]
            for at, change, by, why, *hold in rows
        )

    def close(self) -> None:
        self._database.close()


def _conditions(query: Query) -> tuple[str, list[object]]:
    alert = query.alert
    wanted: list[tuple[str, tuple[object, ...]]] = [
        ("node = ?", (query.node,) if query.node else ()),
        ("kind = ?", (query.kind,) if query.kind else ()),
        ("change = ?", (query.change,) if query.change else ()),
        (
            "(source = ? OR substr(source, 1, ?) = ?)",
            (f"alert:{alert}", len(alert) + 7, f"alert:{alert}:") if alert else (),
        ),
        ("at >= ?", () if query.since is None else (query.since,)),
        ("at < ?", () if query.before is None else (query.before,)),
    ]
    found = [(text, values) for text, values in wanted if values]
    where = " AND ".join(text for text, _ in found)
    values = [value for _, each in found for value in each]
    return (f" WHERE {where}" if where else ""), values
