"""Loads and unloads, told from the difference of two answers of /api/ps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from exporters.ollama.replies import Resident


class Reason(StrEnum):
    """Why a model may have gone, by the expiry that was last seen."""

    EXPIRED = "expired"
    EARLY = "early"


class LoadEvents:
    """Counts over polls; not for several threads at once.

    loads, unloads: by model, and by model and reason
    interval_seconds: between the last two polls; None before the second
    """

    def __init__(self) -> None:
        self.loads: dict[str, int] = {}
        self.unloads: dict[tuple[str, Reason], int] = {}
        self.interval_seconds: float | None = None
        self._resident: Mapping[str, Resident] | None = None
        self._polled = 0.0

    def polled(
        self, resident: Mapping[str, Resident], *, now: float, wall: float
    ) -> None:
        """Take in an answer; the first is what later ones are compared with."""
        before = self._resident
        if before is not None:
            self.interval_seconds = now - self._polled
            for name, was in before.items():
                if not _same(was, resident.get(name)):
                    self._gone(was, wall)
            for name, loaded in resident.items():
                if not _same(loaded, before.get(name)):
                    self.loads[name] = self.loads.get(name, 0) + 1
        self._resident = resident
        self._polled = now

    def know(self, names: Collection[str]) -> None:
        """Have counts at 0 for these models; `increase` misses a birth at 1."""
        for name in names:
            self.loads.setdefault(name, 0)
            for reason in Reason:
                self.unloads.setdefault((name, reason), 0)

    def keep(self, names: Collection[str]) -> None:
        """Forget the models that are neither present nor loaded any more."""
        for name in self.loads.keys() - names:
            del self.loads[name]
        for key in [key for key in self.unloads if key[0] not in names]:
            del self.unloads[key]

    def _gone(self, was: Resident, wall: float) -> None:
        early = was.expires is None or was.expires > wall
        key = was.name, Reason.EARLY if early else Reason.EXPIRED
        self.unloads[key] = self.unloads.get(key, 0) + 1


def _same(one: Resident, other: Resident | None) -> bool:
    """Whether it stayed: another digest under the name is another load."""
    return other is not None and one.digest == other.digest
