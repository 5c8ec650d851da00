"""Operators' overrides: serve this node despite this alert, until then.

A silence in Alertmanager quiets people only: `ALERTS` goes on, and so does the
hold. This is what brings such a node back. Kept on disk by the hold store's journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from router.model import Hold, Override

__all__ = ["OverridePersistence", "Overrides"]


class OverridePersistence(Protocol):
    """Where overrides outlive the process; raises StateError."""

    def load_overrides(self) -> Sequence[Override]: ...

    def save_overrides(self, overrides: Sequence[Override]) -> None:
        """Replace what is kept."""


class Overrides:
    """Every override that has not run out, by node and alert."""

    def __init__(
        self,
        journal: OverridePersistence | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._monotonic = monotonic
        self._standing: dict[tuple[str, str], tuple[Override, float]] = {}
        for override in journal.load_overrides() if journal else ():
            self.put(override)

    def list(self) -> tuple[Override, ...]:
        """Give those that are in force, in the order in which they were made."""
        now = self._monotonic()
        return tuple(o for o, end in self._standing.values() if end > now)

    def cover(self, hold: Hold) -> bool:
        """Say whether an operator had this hold ignored."""
        if not self._standing or hold.alert is None:
            return False
        found = self._standing.get((hold.node, hold.alert))
        return found is not None and found[1] > self._monotonic()

    def put(self, override: Override) -> None:
        """Place one over any other of the same node and alert; not saved yet."""
        # By the monotonic clock from here on: a step of the wall clock ends nothing.
        end = self._monotonic() + override.until - self._clock()
        self._standing[override.key] = (override, end)

    def drop(self, node: str, alert: str) -> Override | None:
        """Take one away; not saved yet."""
        found = self._standing.pop((node, alert), None)
        return found[0] if found else None

    def drop_expired(self) -> tuple[Override, ...]:
        """Take away those that have run out; not saved yet."""
        now = self._monotonic()
        over = [o for o, end in self._standing.values() if end <= now]
        for each in over:
            del self._standing[each.key]
        return tuple(over)

    def adopt(self, found: Iterable[Override]) -> None:
        """Take over what was found late and is not known; not saved yet."""
        for override in found:
            if override.key not in self._standing and override.until > self._clock():
                self.put(override)

    def save(self) -> None:
        """Have on disk what is in force; raises StateError."""
        if self._journal:
            self._journal.save_overrides(self.list())
