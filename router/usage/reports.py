"""Answers from the usage ledger, with what waits to be written in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.usage.report import Prices, UsageQuery, shown
from router.usage.writer import UsageWriter

__all__ = ["UsageReports"]


class UsageReports:
    """Sums up the ledger with prices; raises StateError."""

    def __init__(self, writer: UsageWriter, prices: Callable[[], Prices]) -> None:
        self._writer = writer
        self._prices = prices

    def report(self, query: UsageQuery) -> dict[str, Any]:
        self._writer.flush()
        store = self._writer.store()
        rows = store.totals(query)
        nodes = store.node_energy(query) if query.meters else ()
        return shown(query, rows, nodes, self._prices())
