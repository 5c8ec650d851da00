"""Enforces limits: admits requests, informs clients and stores the counts.

Counts are written twice a second in the database's own thread, as absolute values, so
that nothing is charged twice. A router that is killed loses the last second.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from router.access.limits import (
    Admission,
    Exceeded,
    HeldLimits,
    LimitMeter,
    LimitRules,
    LimitStatus,
)
from router.access.principal import Principal
from router.errors import ContextLimitError, RateLimitedError, StateError
from router.logs.events import get_logger
from router.runtime.sqlite_file import SqliteFile

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
    """Admits requests and items within the limits of their principal.

    rules:     returns the current limits
    shadow:    returns whether limits are counted but not enforced
    clock:     unix seconds
    principal: finds a principal by its id, for usage without a request
    """

    def __init__(
        self,
        folder: Path,
        rules: Callable[[], LimitRules],
        shadow: Callable[[], bool],
        clock: Callable[[], float],
        principal: Callable[[str], Principal] = lambda name: Principal(name, name),
    ) -> None:
        self._principal = principal
        self._path = folder / _FILE
        self._rules = rules
        self._shadow = shadow
        self._clock = clock
        self._meter = LimitMeter()
        self._database: SqliteFile | None = None
        self._reported = ""
        self.exceeded: Counter[tuple[str, str, str]] = Counter()
        self.refused: Callable[[str], None] = lambda _: None  # with its principal
        if self._path.exists():
            self._load()

    def let_in(self, who: Principal) -> Admission | None:
        """Admit a request; None if it has no limits. Raises RateLimitedError."""
        limits = self._rules().of(who)
        if not limits:
            return None
        now = self._clock()
        found = self._meter.exceeded(limits, now)
        if found is not None and self._enforced(found):
            self.refused(who.id)
            raise RateLimitedError(
                _words(found), retry_after_seconds=found.retry_after_seconds
            )
        return self._meter.let_in(limits, now)

    def check_context(self, ticket: Admission, tokens: int) -> None:
        """Refuse a prompt with more tokens (estimated) than allowed.

        Raises ContextLimitError.
        """
        most = ticket.limits.max_context_tokens
        if most is None or tokens <= most:
            return
        subject = next(
            name
            for name, each in ticket.limits.limits
            if each.max_context_tokens == most
        )
        if self._enforced(Exceeded(subject, "max_context_tokens", most, 0.0)):
            raise ContextLimitError(
                f"the prompt has about {tokens} tokens, and {_whose(subject)} may send"
                f" {most} (max_context_tokens)"
            )

    @property
    def caps(self) -> bool:
        """Whether requests are reduced to their limits."""
        return not self._shadow()

    def item_refused(self, principal: str, running: Callable[[str], int]) -> str | None:
        """Return why no item of a principal's jobs may start; None if one may.

        running: counts the principal's items in flight
        """
        limits = self._limits_of(principal)
        if not limits:
            return None
        found = self._meter.item_exceeded(limits, running(principal), self._clock())
        if found is None or self._shadow():
            return None
        return _words(found)

    def charge(self, principal: str, **used: float) -> None:
        """Count usage of a principal: tokens, job_items, joules, cost."""
        if limits := self._limits_of(principal):
            self._meter.charge(limits, used, self._clock())

    def _limits_of(self, principal: str) -> HeldLimits:
        rules = self._rules()
        known = rules.known(principal)
        return rules.of(self._principal(principal)) if known is None else known

    def _enforced(self, found: Exceeded) -> bool:
        """Count an exceeded limit; return whether it is enforced."""
        mode = "shadow" if self._shadow() else "enforce"
        self.exceeded[found.subject.partition(":")[0], found.name, mode] += 1
        return mode == "enforce"

    def end(self, ticket: Admission, tokens: int) -> None:
        self._meter.end(ticket, tokens, self._clock())

    def usage(self, who: Principal) -> list[LimitStatus]:
        """Return the limits to report to a client; none if they are not enforced."""
        if self._shadow():
            return []
        return self._meter.usage(self._rules().of(who), self._clock())

    def save(self) -> None:
        """Write changed counts; called by a timer, never in a request."""
        rows = self._meter.changed()
        if not rows:
            return
        try:
            self._opened().write(lambda database: _write(database, rows))
            self._reported = ""
        except StateError as error:
            self._meter.keep_again(rows)
            if str(error) != self._reported:
                log.warning("limits_not_saved", fault=str(error))
            self._reported = str(error)

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


def _whose(subject: str) -> str:
    whose = {"key": "this API key", "tag": "keys like this one", "client": "you"}
    return whose.get(subject.partition(":")[0], "all keys together")


def _words(found: Exceeded) -> str:
    name = found.name.replace("_", " ")
    return (
        f"limit reached: {_whose(found.subject)} may have {found.most:.10g} {name};"
        f" try again in"
        f" {found.retry_after_seconds:.0f} s"
    )
