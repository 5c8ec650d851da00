"""Holds on disk: SQLite in a database thread of its own, never in the hub.

Each save is one transaction that is on disk when the call returns, also for
the power going out. Knows nothing of what a hold means.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from router.errors import StateError
from router.holds import Key
from router.model import Clear, Hold, HoldKind, HoldState

T = TypeVar("T")

_SCHEMA = 1
_BUSY_SECONDS = 1.0
_TABLE = """
CREATE TABLE IF NOT EXISTS holds (
    node TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    reason TEXT NOT NULL, since REAL NOT NULL, until REAL,
    state TEXT NOT NULL, clear TEXT NOT NULL, labels TEXT NOT NULL,
    PRIMARY KEY (node, kind, source)
) STRICT, WITHOUT ROWID
"""
_SELECT = "SELECT * FROM holds ORDER BY since, node, kind, source"
_INSERT = "INSERT OR REPLACE INTO holds VALUES (?,?,?,?,?,?,?,?,?)"
_DELETE = "DELETE FROM holds WHERE node = ? AND kind = ? AND source = ?"

Row = tuple[str, str, str, str, float, float | None, str, str, str]


class SqliteJournal:
    """A journal of holds in one file; every error names that file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A native thread, also under gevent's patches; without a running event
        # loop the caller simply waits.
        self._thread = ThreadPool(1)
        # From another native thread gevent runs the call in place.
        self._turn = get_original("threading", "Lock")()
        self._database = self._run(self._open)

    def load(self) -> tuple[Hold, ...]:
        rows: list[Row] = self._run(lambda: self._database.execute(_SELECT).fetchall())
        try:
            return tuple(_hold(row) for row in rows)
        except (ValueError, TypeError) as error:
            raise StateError(f"{self._path}: a hold cannot be read: {error}") from error

    def save(
        self, changes: Callable[[], Mapping[Key, Hold | None]]
    ) -> Mapping[Key, Hold | None]:
        return self._run(lambda: self._write(changes()))

    def close(self) -> None:
        self._run(self._database.close)
        self._thread.kill()

    def _write(self, changes: Mapping[Key, Hold | None]) -> Mapping[Key, Hold | None]:
        with self._database:
            for key, hold in changes.items():
                if hold is None:
                    self._database.execute(_DELETE, key)
                else:
                    self._database.execute(_INSERT, _row(hold))
        return changes

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        try:
            _prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _run(self, call: Callable[[], T]) -> T:
        # The error comes back as a value: gevent prints what a pool's thread raises.
        answer = self._thread.apply(self._attempt, (call,))
        if isinstance(answer, StateError):
            raise answer
        result: T = answer
        return result

    def _attempt(self, call: Callable[[], T]) -> T | StateError:
        try:
            with self._turn:
                return call()
        except (sqlite3.Error, OSError) as error:
            wrapped = StateError(f"{self._path}: {error}")
            wrapped.__cause__ = error
            return wrapped


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found > _SCHEMA:
        raise sqlite3.DatabaseError(
            f"written by a newer release (schema {found}, this one knows {_SCHEMA})"
        )
    damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise sqlite3.DatabaseError(damage)
    with database:
        database.execute(_TABLE)
        database.execute(f"PRAGMA user_version = {_SCHEMA}")


def _row(hold: Hold) -> Row:
    return (
        hold.node,
        hold.kind.value,
        hold.source,
        hold.reason,
        hold.since,
        hold.until,
        hold.state.value,
        hold.clear.value,
        json.dumps(dict(hold.labels), sort_keys=True),
    )


def _hold(row: Row) -> Hold:
    node, kind, source, reason, since, until, state, clear, labels = row
    return Hold(
        node=node,
        kind=HoldKind(kind),
        source=source,
        reason=reason,
        since=since,
        until=until,
        state=HoldState(state),
        clear=Clear(clear),
        labels=json.loads(labels),
    )
