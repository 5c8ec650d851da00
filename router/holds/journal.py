"""Stores holds and overrides in SQLite; does not interpret them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from router.errors import StateDamagedError
from router.holds.record import Key
from router.model import Clear, Hold, HoldKind, HoldState, Override
from router.runtime.sqlite_file import SqliteFile

_SCHEMA = 2  # 1 knew no overrides, and neither evict, derate nor verified
_HOLDS = """
CREATE TABLE IF NOT EXISTS holds (
    node TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    reason TEXT NOT NULL, since REAL NOT NULL, until REAL,
    state TEXT NOT NULL, clear TEXT NOT NULL, labels TEXT NOT NULL,
    PRIMARY KEY (node, kind, source)
) STRICT, WITHOUT ROWID
"""
_OVERRIDES = """
CREATE TABLE IF NOT EXISTS overrides (
    node TEXT NOT NULL, alert TEXT NOT NULL, by TEXT NOT NULL,
    reason TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (node, alert)
) STRICT, WITHOUT ROWID
"""
_SELECT = "SELECT * FROM holds ORDER BY since, node, kind, source"
_ALL_HOLDS = "SELECT * FROM holds"  # unsorted: what precedes the damage is read
_ALL_OVERRIDES = "SELECT * FROM overrides"
_INSERT = "INSERT OR REPLACE INTO holds VALUES (?,?,?,?,?,?,?,?,?)"
_DELETE = "DELETE FROM holds WHERE node = ? AND kind = ? AND source = ?"
_SELECT_OVERRIDES = "SELECT * FROM overrides ORDER BY since, node, alert"
_INSERT_OVERRIDE = "INSERT OR REPLACE INTO overrides VALUES (?,?,?,?,?,?)"

Row = tuple[str, str, str, str, float, float | None, str, str, str]


class SqliteHolds:
    """Holds and overrides in one file; every error names that file."""

    def __init__(self, path: Path) -> None:
        self._database = SqliteFile(path, (_HOLDS, _OVERRIDES), _SCHEMA)
        self._path = path

    def load(self) -> tuple[Hold, ...]:
        rows: list[Row] = self._database.read(_SELECT)
        try:
            return tuple(hold_of(row) for row in rows)
        except (ValueError, TypeError) as error:
            raise StateDamagedError(
                f"{self._path}: a hold cannot be read: {error}"
            ) from error

    def save(
        self, changes: Callable[[], Mapping[Key, Hold | None]]
    ) -> Mapping[Key, Hold | None]:
        return self._database.write(lambda database: _write(database, changes()))

    def load_overrides(self) -> tuple[Override, ...]:
        rows = self._database.read(_SELECT_OVERRIDES)
        return tuple(Override(*row) for row in rows)

    def save_overrides(self, overrides: Sequence[Override]) -> None:
        def replace(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM overrides")
            database.executemany(_INSERT_OVERRIDE, map(_override_row, overrides))

        self._database.write(replace)

    @property
    def fresh(self) -> bool:
        """Say whether there was nothing in the file when it was opened."""
        return self._database.fresh

    def check(self) -> None:
        """Raise StateError where nothing can be written now."""
        self._database.check()

    def close(self) -> None:
        self._database.close()


def readable(
    database: sqlite3.Connection,
) -> tuple[list[Hold], list[Override], bool]:
    """Return the readable holds and overrides, and whether every row was readable."""
    holds: list[Hold] = []
    overrides: list[Override] = []
    complete = True
    try:
        for row in database.execute(_ALL_HOLDS):
            try:
                holds.append(hold_of(row))
            except (ValueError, TypeError):
                complete = False
        overrides += [Override(*row) for row in database.execute(_ALL_OVERRIDES)]
    except (sqlite3.Error, TypeError):
        complete = False
    return holds, overrides, complete


def _write(
    database: sqlite3.Connection, changes: Mapping[Key, Hold | None]
) -> Mapping[Key, Hold | None]:
    for key, hold in changes.items():
        if hold is None:
            database.execute(_DELETE, key)
        else:
            database.execute(_INSERT, row_of(hold))
    return changes


def row_of(hold: Hold) -> Row:
    """Return a hold's fields as a row of the table."""
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


def hold_of(row: Row) -> Hold:
    """Make a hold of a row; raises ValueError, TypeError."""
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


def _override_row(override: Override) -> tuple[object, ...]:
    return (
        override.node,
        override.alert,
        override.by,
        override.reason,
        override.since,
        override.until,
    )
