"""Stores holds even where their file cannot be used: the router starts and repairs it.

The disk may be full or read-only, the file unreadable or damaged. Holds then come from
a copy of the file or from the history, and alert holds again from Prometheus. Until the
file can be written, holds are in memory only, and `fault` says why.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from router.errors import StateDamagedError, StateError
from router.holds.journal import SqliteHolds, readable
from router.holds.record import Found, Key
from router.holds.rescue import opened_copy
from router.logs.events import get_logger
from router.model import Hold, Override
from router.runtime.sqlite_file import put_aside

T = TypeVar("T")

_RETRY_SECONDS = 5.0
_CHECK_SECONDS = 30.0  # a disk that fills up is seen before somebody needs it

log = get_logger("holds")


class MendingJournal:
    """A `HoldPersistence` and an `OverridePersistence`; call `mend` from time to time.

    remembered: returns what the history has, for a file that is lost
    fault:  why holds are not saved; None while they are
    notice: what was lost at the start and where the old file is; None if nothing was
    """

    def __init__(
        self,
        path: Path,
        remembered: Callable[[], Found],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._remembered = remembered
        self._monotonic = monotonic
        self._journal: SqliteHolds | None = None
        self._tried_at = 0.0
        self.fault: str | None = None
        self.notice: str | None = None
        self._found: Found | None = None
        self._keeps = True
        self._found = self._begin()

    def load(self) -> tuple[Hold, ...]:
        return self._found.holds if self._found else ()

    def load_overrides(self) -> tuple[Override, ...]:
        return self._found.overrides if self._found else ()

    def reread(self) -> Found:
        """Read again what another router may have written. Raises StateError."""
        if self._journal is None:
            return Found()
        return Found(self._journal.load(), self._journal.load_overrides())

    def keep_no_more(self) -> None:
        """Stop writing: another router has taken over the file."""
        self._keeps = False

    def save(
        self, changes: Callable[[], Mapping[Key, Hold | None]]
    ) -> Mapping[Key, Hold | None]:
        if not self._keeps:
            return changes()
        return self._guarded(lambda journal: journal.save(changes))

    def save_overrides(self, overrides: Sequence[Override]) -> None:
        if self._keeps:
            self._guarded(lambda journal: journal.save_overrides(overrides))

    def mend(self) -> Found | None:
        """Try again to open the file; return its content once that works, else None."""
        since = self._monotonic() - self._tried_at
        if self._journal:
            if since >= _CHECK_SECONDS:
                self._check(self._journal)
            return None
        if since < _RETRY_SECONDS:
            return None
        try:
            found = self._open()
        except StateError as error:
            self._fail(error)
            return None
        log.info("holds_saved_again", file=str(self._path))
        return found

    def _check(self, journal: SqliteHolds) -> None:
        self._tried_at = self._monotonic()
        with contextlib.suppress(StateError):  # it is in `fault`
            self._guarded(lambda _: journal.check())

    def close(self) -> None:
        if self._journal:
            self._journal.close()

    def _begin(self) -> Found:
        try:
            found = self._open()
            if self._journal and self._journal.fresh and not self.notice:
                found = self._refill(self._journal)
        except StateError as error:
            self._fail(error)
        else:
            return found
        found = self._found or self._known()
        log.warning(
            "holds_in_memory_only",
            found=len(found.holds),
            consequence="a restart would lose what changes now",
        )
        return found

    def _open(self) -> Found:
        """Open the file; one that makes no sense is put aside. Raises StateError."""
        self._tried_at = self._monotonic()
        try:
            journal, found = _opened(self._path)
        except StateDamagedError as error:
            self._found = found = self._known()  # whatever comes of the rest
            journal = self._start_over(found, error)
        self._journal, self.fault = journal, None
        return found

    def _start_over(self, found: Found, error: StateError) -> SqliteHolds:
        aside = put_aside(self._path)
        journal, _ = _opened(self._path)
        _fill(journal, found)
        self._tell(f"{error}; it is kept as {aside.name}", found)
        return journal

    def _refill(self, journal: SqliteHolds) -> Found:
        """Take from the history what an emptied or deleted file had."""
        found = self._remembered()
        if found.holds or found.overrides:
            _fill(journal, found)
            self._tell(f"{self._path}: it was empty, its history is not", found)
        return found

    def _tell(self, what: str, found: Found) -> None:
        count = len(found.holds)
        self.notice = f"{what}; {count} holds were found again: look through them"
        log.error("holds_file_lost", notice=self.notice)

    def _known(self) -> Found:
        """Give what can be read of the file, else what is remembered of it."""
        holds: Sequence[Hold] = ()
        overrides: Sequence[Override] = ()
        complete = False
        with contextlib.suppress(StateError), opened_copy(self._path) as copy:
            holds, overrides, complete = readable(copy)
        if complete:
            return Found(tuple(holds), tuple(overrides))
        other = self._remembered()
        return Found(
            tuple({hold.key: hold for hold in (*other.holds, *holds)}.values()),
            tuple({each.key: each for each in (*other.overrides, *overrides)}.values()),
        )

    def _guarded(self, call: Callable[[SqliteHolds], T]) -> T:
        if self._journal is None:
            raise StateError(self.fault or f"{self._path}: is not open")
        try:
            done = call(self._journal)
        except StateError as error:
            self._fail(error)
            raise
        if self.fault:
            log.info("holds_saved_again", file=str(self._path))
        self.fault = None
        return done

    def _fail(self, error: StateError) -> None:
        if self.fault is None:
            log.error("holds_not_saved", fault=str(error))
        self.fault = str(error)


def _fill(journal: SqliteHolds, found: Found) -> None:
    journal.save(lambda: {hold.key: hold for hold in found.holds})
    journal.save_overrides(found.overrides)


def _opened(path: Path) -> tuple[SqliteHolds, Found]:
    journal = SqliteHolds(path)
    try:
        found = Found(journal.load(), journal.load_overrides())
    except StateError:
        journal.close()
        raise
    return journal, found
