"""One SQLite file in a database thread of its own, never in the event loop.

A call returns when its transaction is on disk, also for the power going out. Every
error names the file. Knows nothing of what is kept in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gevent.monkey import get_original

from router.errors import BusyError, StateDamagedError, StateError
from router.runtime.threads import Pool

T = TypeVar("T")

_BUSY_SECONDS = 1.0
_CALL_SECONDS = 10.0  # a disk that hangs must not hold a control pass
_MOST_WAITING = 1024
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteFile:
    """A file with `tables`; one that a newer `schema` wrote is refused.

    fresh:    whether there was nothing in it when it was opened
    upgrades: what brings a file of an older schema to the next one, by the older
    """

    def __init__(
        self,
        path: Path,
        tables: Sequence[str],
        schema: int,
        upgrades: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.path = path
        self._tables = tables
        self._schema = schema
        self._upgrades = upgrades or {}
        self.fresh = False
        # A native thread, also under gevent's patches; without a running event
        # loop the caller simply waits.
        self._thread = Pool(path.name, 1, waiting=_MOST_WAITING, seconds=_CALL_SECONDS)
        # From another native thread gevent runs the call in place.
        self._turn = get_original("threading", "Lock")()
        try:
            self._database = self._run(self._open)
        except BaseException:
            self._thread.close()
            raise

    def read(self, statement: str, values: Sequence[object] = ()) -> list[tuple]:  # type: ignore[type-arg]
        """Select rows; raises StateError."""
        return self._run(lambda: self._database.execute(statement, values).fetchall())

    def write(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Do `call` in one transaction, in the database's thread."""

        def transaction() -> T:
            with self._database:
                return call(self._database)

        return self._run(transaction)

    def check(self) -> None:
        """Write something that changes nothing. Raises StateError."""
        statement = f"PRAGMA user_version = {self._schema}"
        self.write(lambda database: database.execute(statement))

    def close(self) -> None:
        self._run(self._database.close)
        self._thread.close()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (found,) = database.execute("PRAGMA user_version").fetchone()
        self.fresh = found == 0
        if found > self._schema:
            raise sqlite3.DatabaseError(
                "written by a newer release"
                f" (schema {found}, this one knows {self._schema})"
            )
        damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise StateDamagedError(f"{self.path}: {damage}")
        with database:
            for old in range(found or self._schema, self._schema):
                for statement in self._upgrades.get(old, ()):
                    database.execute(statement)
            for table in self._tables:
                database.execute(table)
            database.execute(f"PRAGMA user_version = {self._schema}")

    def _run(self, call: Callable[[], T]) -> T:
        # The error comes back as a value: gevent prints what a pool's thread raises.
        try:
            answer = self._thread(lambda: self._attempt(call))
        except BusyError as error:
            raise StateError(
                f"{self.path}: does not answer: {error.message}"
            ) from error
        if isinstance(answer, StateError):
            raise answer
        return answer

    def _attempt(self, call: Callable[[], T]) -> T | StateError:
        try:
            with self._turn:
                return call()
        except StateError as error:
            return error
        except (sqlite3.Error, OSError) as error:
            wrapped = _kind(error)(f"{self.path}: {error}")
            wrapped.__cause__ = error
            return wrapped


def _kind(error: Exception) -> type[StateError]:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return StateDamagedError if code in _DAMAGE else StateError


def open_or_replace(
    path: Path,
    tables: Sequence[str],
    schema: int,
    upgrades: Mapping[int, Sequence[str]] | None = None,
    *,
    replaced: Callable[[StateError, Path], object],
) -> SqliteFile:
    """Open a file; put a damaged one aside and begin an empty one.

    replaced: called with what was wrong, and where the damaged file is now
    Raises StateError.
    """
    try:
        return SqliteFile(path, tables, schema, upgrades)
    except StateDamagedError as error:
        replaced(error, put_aside(path))
        return SqliteFile(path, tables, schema, upgrades)


def put_aside(path: Path) -> Path:
    """Rename a damaged file, for whoever wants to look into it. Raises StateError."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.rename(aside)
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{path}: cannot be put aside: {error.strerror}") from error
    return aside
