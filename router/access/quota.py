"""Limits at work: who is let in, what a client is told, and counts that outlive us.

Counts are written once a second in the database's own thread, as they stand and not as
differences: nothing is charged twice. A router that is killed forgets the last second.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from router.access.limits import (
    Admission,
    Exceeded,
    LimitMeter,
    LimitRules,
    LimitStatus,
)
from router.access.principal import Principal
from router.errors import RateLimitedError, StateError
from router.logs.events import get_logger
from router.sqlite_file import SqliteFile

__all__ = ["Quotas"]

_FILE = "limits.sqlite"
_TABLE = """
CREATE TABLE IF NOT EXISTS counts (
    subject TEXT NOT NULL, what TEXT NOT NULL, window TEXT NOT NULL,
    begin INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (subject, what, window)
) STRICT
"""

log = get_logger("limits")


class Quotas:
    """Who is let in, by the limits that hold for them.

    rules: as they are now. shadow: whether they are counted and not enforced
    clock: unix seconds
    """

    def __init__(
        self,
        folder: Path,
        rules: Callable[[], LimitRules],
        shadow: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._path = folder / _FILE
        self._rules = rules
        self._shadow = shadow
        self._clock = clock
        self._meter = LimitMeter()
        self._database: SqliteFile | None = None
        self._told = ""
        self.exceeded: Counter[tuple[str, str, str]] = Counter()
        if self._path.exists():
            self._load()

    def let_in(self, who: Principal) -> Admission | None:
        """Count a request; None where no limit holds. Raises RateLimitedError."""
        limits = self._rules().of(who)
        if not limits:
            return None
        now = self._clock()
        found = self._meter.exceeded(limits, now)
        if found is not None:
            mode = "shadow" if self._shadow() else "enforce"
            of = found.subject.partition(":")[0]
            self.exceeded[of, found.name, mode] += 1
            if mode == "enforce":
                raise RateLimitedError(
                    _words(found), retry_after_seconds=found.retry_after_seconds
                )
        return self._meter.let_in(limits, now)

    def end(self, ticket: Admission, tokens: int) -> None:
        self._meter.end(ticket, tokens, self._clock())

    def usage(self, who: Principal) -> list[LimitStatus]:
        """Return what a client is told; nothing where limits are not enforced."""
        if self._shadow():
            return []
        return self._meter.usage(self._rules().of(who), self._clock())

    def save(self) -> None:
        """Write what changed; called once a second, never in a request."""
        rows = self._meter.changed()
        if not rows:
            return
        try:
            self._opened().write(lambda database: _write(database, rows))
            self._told = ""
        except StateError as error:
            self._meter.keep_again(rows)
            if str(error) != self._told:
                log.warning("limits_not_saved", fault=str(error))
            self._told = str(error)

    def _load(self) -> None:
        try:
            rows = self._opened().read(
                "SELECT subject, what, window, begin, count FROM counts"
            )
            self._meter.load(rows)
        except (StateError, ValueError) as error:
            log.error("limits_not_read", fault=str(error))  # noqa: TRY400 - no traceback

    def _opened(self) -> SqliteFile:
        if self._database is None:
            self._database = SqliteFile(self._path, (_TABLE,), 1)
        return self._database


def _write(
    database: sqlite3.Connection, rows: list[tuple[str, str, str, int, int]]
) -> None:
    database.executemany(
        "INSERT OR REPLACE INTO counts (subject, what, window, begin, count)"
        " VALUES (?,?,?,?,?)",
        rows,
    )


def _words(found: Exceeded) -> str:
    whose = {"key": "this API key", "tag": "keys like this one", "client": "you"}
    of = whose.get(found.subject.partition(":")[0], "all keys together")
    name = found.name.replace("_", " ")
    return (
        f"limit reached: {of} may have {found.most} {name}; try again in"
        f" {found.retry_after_seconds:.0f} s"
    )
