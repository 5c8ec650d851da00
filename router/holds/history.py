"""The history of holds on disk: the newest events, each with who, why, since and until.

People read it, flapping nodes are counted from it, and it restores holds whose own file
is lost. A damaged file is put aside and replaced by a new one; a file that cannot be
opened is tried again later. Neither keeps the router from starting.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

from router.errors import StateError
from router.holds.journal import hold_of, row_of
from router.holds.record import Actor, AuditEvent, Change, Found
from router.holds.rescue import opened_copy
from router.logs.events import get_logger
from router.model import HoldKind, Override
from router.runtime.sqlite_file import SqliteFile, open_or_replace

T = TypeVar("T")

_SCHEMA = 2  # 1 knew no principal and no client
_TABLE = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL, change TEXT NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL,
    node TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    reason TEXT NOT NULL, since REAL NOT NULL, until REAL,
    state TEXT NOT NULL, clear TEXT NOT NULL, labels TEXT NOT NULL,
    principal TEXT NOT NULL DEFAULT '', client TEXT NOT NULL DEFAULT ''
) STRICT
"""
_INDEX = "CREATE INDEX IF NOT EXISTS events_of_node ON events (node, id)"
_UPGRADES = {
    1: tuple(
        f"ALTER TABLE events ADD COLUMN {name} TEXT NOT NULL DEFAULT ''"
        for name in ("principal", "client")
    )
}
_EVENT = "at, change, by, why"
_ACTOR = "principal, client"
_COLUMNS = "node, kind, source, reason, since, until, state, clear, labels"
_INSERT = (
    f"INSERT INTO events ({_EVENT}, {_ACTOR}, {_COLUMNS})"  # noqa: S608 - no input
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_CHANGED = "('placed', 'confirmed', 'doubted', 'lifted')"
_STANDING = (
    f"SELECT {_EVENT}, {_ACTOR}, {_COLUMNS} FROM events WHERE id IN"  # noqa: S608 - as above
    f" (SELECT max(id) FROM events WHERE change IN {_CHANGED}"
    " GROUP BY node, kind, source)"
    f" AND change != 'lifted' AND kind != '{HoldKind.DOWN}' ORDER BY id"
)
_OVERRIDDEN = (
    f"SELECT {_EVENT}, {_ACTOR}, {_COLUMNS} FROM events WHERE id IN"  # noqa: S608 - as above
    " (SELECT max(id) FROM events WHERE change IN ('overridden', 'override_ended')"
    " GROUP BY node, source) ORDER BY id"
)
_TRIM = "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?"


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Filters for events; None and an empty text match every event.

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


class SqliteAuditLog:
    """At most `most` events in one file; every error names that file.

    fault: why nothing can be read or written now; None while it can
    """

    def __init__(self, path: Path, most: Callable[[], int] = lambda: 10_000) -> None:
        self._path = path
        self._most = most
        self._database: SqliteFile | None = None
        self.fault: str | None = None
        with contextlib.suppress(StateError):
            self._opened()

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Store events, oldest first, and drop the oldest beyond the bound."""
        rows = [
            (e.at, e.change.value, e.by, e.why, *astuple(e.actor), *row_of(e.hold))
            for e in events
        ]

        def insert(database: sqlite3.Connection) -> None:
            database.executemany(_INSERT, rows)
            database.execute(_TRIM, (self._most(),))

        self._guarded(lambda database: database.write(insert))

    def find(self, query: AuditQuery) -> tuple[AuditEvent, ...]:
        """Return matching events, newest first, at most `limit`. Raises StateError."""
        where, values = _conditions(query)
        statement = (
            f"SELECT {_EVENT}, {_ACTOR}, {_COLUMNS} FROM events"  # noqa: S608 - fixed texts only
            f"{where} ORDER BY id DESC LIMIT ?"
        )
        values = [*values, query.limit]
        try:
            rows = self._guarded(lambda database: database.read(statement, values))
        except StateError:  # it may be read where it cannot be written
            with opened_copy(self._path) as copy:
                rows = copy.execute(statement, values).fetchall()
        return tuple(_event(row) for row in rows)

    def standing(self) -> Found:
        """Return the holds and overrides that are in force according to the events."""
        rows: dict[str, list[tuple[Any, ...]]] = {}
        with contextlib.suppress(StateError), opened_copy(self._path) as copy:
            for name, statement in (("holds", _STANDING), ("overrides", _OVERRIDDEN)):
                rows[name] = copy.execute(statement).fetchall()
        events = [_event(row) for row in rows.get("overrides", ())]
        return Found(
            tuple(_event(row).hold for row in rows.get("holds", ())),
            tuple(_override(e) for e in events if e.change is Change.OVERRIDDEN),
        )

    def mend(self) -> None:
        """Retry after a failure; `fault` tells whether it worked."""
        if self.fault is not None:
            with contextlib.suppress(StateError):
                self._guarded(lambda database: database.check())

    def _opened(self) -> SqliteFile:
        if self._database is None:
            try:
                self._database = self._open()
            except StateError as error:
                self.fault = str(error)
                raise
            self.fault = None
        return self._database

    def _open(self) -> SqliteFile:
        return open_or_replace(
            self._path,
            (_TABLE, _INDEX),
            _SCHEMA,
            _UPGRADES,
            replaced=lambda error, aside: get_logger("archive").error(
                "history was damaged, begun anew", why=str(error), kept_as=str(aside)
            ),
        )

    def _guarded(self, call: Callable[[SqliteFile], T]) -> T:
        try:
            done = call(self._opened())
        except StateError as error:
            self.fault = str(error)
            raise
        self.fault = None
        return done

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


def _event(row: Sequence[Any]) -> AuditEvent:
    at, change, by, why, principal, client, *hold = row
    actor = Actor(principal, client)
    return AuditEvent(at, Change(change), hold_of(hold), by, why, actor)  # type: ignore[arg-type]


def _override(event: AuditEvent) -> Override:
    hold = event.hold
    until = hold.since if hold.until is None else hold.until
    return Override(
        hold.node, hold.alert or "", event.by, hold.reason, hold.since, until
    )


def _conditions(query: AuditQuery) -> tuple[str, list[object]]:
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
