"""What the hold store keeps of a hold, and what it tells of it; pure values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from router.model import Hold, HoldKind, HoldState, Override

__all__ = [
    "NOBODY",
    "Actor",
    "AuditEvent",
    "AuditLog",
    "Change",
    "Found",
    "HoldPersistence",
    "HoldRecord",
    "Key",
    "merged",
]

Key = tuple[str, HoldKind, str]


class HoldPersistence(Protocol):
    """Where holds outlive the process; raises StateError."""

    def load(self) -> Sequence[Hold]: ...

    def save(
        self, changes: Callable[[], Mapping[Key, Hold | None]]
    ) -> Mapping[Key, Hold | None]:
        """Make changes durable (None: gone), return what was written.

        `changes` is called when the write begins, so that of two writers who
        overtake each other the later one still writes the truth.
        """


class Change(StrEnum):
    """What happened to a hold."""

    PLACED = "placed"
    CONFIRMED = "confirmed"
    DOUBTED = "doubted"
    LIFTED = "lifted"
    VERIFIED = "verified"  # the check of a hold with `clear: verified` passed
    UNVERIFIED = "unverified"  # it did not
    OVERRIDDEN = "overridden"  # an operator has it ignored
    OVERRIDE_ENDED = "override_ended"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who had a change made, as the router itself knows it, whatever a caller says.

    principal: `token:NAME`, `local:USER` or `local`; empty for the router's own doing
    client:    the address that it came from
    """

    principal: str = ""
    client: str = ""


NOBODY = Actor()  # the router itself: time, a probe, the level


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the store's history; `at` in unix seconds.

    by: who made the change by their own account; `actor` is what is known of them
    """

    at: float
    change: Change
    hold: Hold
    by: str
    why: str
    actor: Actor = NOBODY


@dataclass(frozen=True, slots=True)
class Found:
    """What a file, or what is left of it, has of holds and overrides."""

    holds: tuple[Hold, ...] = ()
    overrides: tuple[Override, ...] = ()


class AuditLog(Protocol):
    """Where the history outlives the process; raises StateError."""

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Keep events, oldest first."""


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A hold as the level pass judges it.

    asserted_at: monotonic seconds when it was last placed, rings included
    revision:    grows each time; a pass lifts only the revision that it judged
    expires_at:  monotonic seconds at which `until` was due when it was placed: a
                 step of the wall clock ends no hold, and prolongs none
    """

    hold: Hold
    asserted_at: float
    revision: int
    expires_at: float | None = None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def merged(old: Hold, new: Hold) -> Hold:
    """Put a hold over the one of the same identity."""
    since = min(old.since, new.since)
    if new.state is not HoldState.PROVISIONAL:
        return replace(new, since=since)
    if old.state is not HoldState.PROVISIONAL:
        return replace(old, since=since)
    return replace(new, since=since, until=_later(old.until, new.until))


def _later(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)
