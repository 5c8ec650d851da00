"""Slots that were in use when the last router died count as busy; pure.

Until the node looks idle (no model resident, or an `expires_at` that moved, which
it does when a model falls idle), for thirty seconds at most.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

SECONDS = 30.0


class RecoveredInFlight:
    """Streams of an earlier router that may still run; `counts` is mostly empty."""

    def __init__(
        self, counts: Mapping[str, int] | None = None, until: float = 0.0
    ) -> None:
        self.counts = {n: c for n, c in (counts or {}).items() if c > 0}
        self._until = until

    def count(self, node: str, now: float) -> int:
        if now >= self._until:
            self.counts.clear()
        return self.counts.get(node, 0)

    def looked(
        self, node: str, resident: Collection[str], idle: Collection[str]
    ) -> None:
        """Take a poll of the node: what is resident, what fell idle since the last."""
        if not resident or idle:
            self.counts.pop(node, None)
