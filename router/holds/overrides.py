"""Operators' overrides: use a node despite one alert, until a given time.

A silence in Alertmanager stops notifications only: the alert goes on firing and its
hold stays. An override lets the node serve. It is stored beside the holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from router.model import Hold, Override


class OverridePersistence(Protocol):
    """Stores overrides over a restart; raises StateError."""

    def load_overrides(self) -> Sequence[Override]: ...

    def save_overrides(self, overrides: Sequence[Override]) -> None:
        """Replace all stored overrides."""


class Overrides:
    """The overrides in force, by node and alert."""

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
        """Return the overrides in force, oldest first."""
        now = self._monotonic()
        return tuple(o for o, end in self._standing.values() if end > now)

    def cover(self, hold: Hold) -> bool:
        """Say whether an override makes this hold ineffective."""
        if not self._standing or hold.alert is None:
            return False
        found = self._standing.get((hold.node, hold.alert))
        return found is not None and found[1] > self._monotonic()

    def put(self, override: Override) -> None:
        """Add an override, replacing one of the same node and alert; not saved yet."""
        # By the monotonic clock from here on: a step of the wall clock ends nothing.
        end = self._monotonic() + override.until - self._clock()
        self._standing[override.key] = (override, end)

    def drop(self, node: str, alert: str) -> Override | None:
        """Remove an override; not saved yet."""
        found = self._standing.pop((node, alert), None)
        return found[0] if found else None

    def drop_expired(self) -> tuple[Override, ...]:
        """Remove expired overrides; not saved yet."""
        now = self._monotonic()
        over = [o for o, end in self._standing.values() if end <= now]
        for each in over:
            del self._standing[each.key]
        return tuple(over)

    def adopt(self, found: Iterable[Override]) -> None:
        """Add overrides found in a file that became readable later; not saved yet."""
        for override in found:
            if override.key not in self._standing and override.until > self._clock():
                self.put(override)

    def save(self) -> None:
        """Store the overrides in force; raises StateError."""
        if self._journal:
            self._journal.save_overrides(self.list())
