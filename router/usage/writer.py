"""Writes the usage ledger to its file in batches, outside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.errors import StateError
from router.logs.events import get_logger
from router.usage.ledger import UsageLedger
from router.usage.report import Prices, UsageQuery, shown
from router.usage.store import UsageStore

_AT_ONCE = 2000

log = get_logger("usage")


class UsageWriter:
    """Writes to a file that is opened when needed, and again after a failure.

    fault:   why nothing can be written; None while it can
    written: number of rows written, repeated ones included
    """

    def __init__(
        self,
        ledger: UsageLedger,
        open_store: Callable[[], UsageStore],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._open_store = open_store
        self._clock = clock
        self._store: UsageStore | None = None
        self.fault: str | None = None
        self.written = 0

    def store(self) -> UsageStore:
        """Return the opened file. Raises StateError."""
        if self._store is None:
            opened = self._open_store()
            lost = opened.begin(self._ledger.first_id)
            if lost:
                log.warning("requests_lost", count=lost)
            self._store = opened
        return self._store

    def flush(self) -> None:
        """Write everything that waits; what fails is kept for later."""
        while batch := self._ledger.take(_AT_ONCE):
            try:
                self.store().write(batch.rows, batch.energy, self._clock())
            except StateError as error:
                self._ledger.put_back(batch)
                if self.fault is None:
                    log.error("usage_not_written", fault=str(error))  # noqa: TRY400
                self.fault = str(error)
                return
            self.fault = None
            self.written += len(batch.rows)

    def report(self, query: UsageQuery, prices: Prices) -> dict[str, Any]:
        """Sum up the file with what waits to be written. Raises StateError."""
        self.flush()
        store = self.store()
        nodes = store.node_energy(query) if query.meters else ()
        return shown(query, store.totals(query), nodes, prices)

    def forget(self, keep_seconds: float) -> None:
        """Delete rows that are older; 0 keeps all."""
        if not keep_seconds:
            return
        try:
            while self.store().forget(self._clock() - keep_seconds):
                pass
        except StateError as error:
            self.fault = str(error)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.flush()
        if self._store is not None:
            self._store.close()
