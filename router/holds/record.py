"""Values of the hold store: its records, its events and who caused them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from router.model import Hold, HoldKind, HoldState, Override

Key = tuple[str, HoldKind, str]


class HoldPersistence(Protocol):
    """Stores holds over a restart; raises StateError."""

    def load(self) -> Sequence[Hold]: ...

    def save(
        self, changes: Callable[[], Mapping[Key, Hold | None]]
    ) -> Mapping[Key, Hold | None]:
        """Write changes (None deletes a hold) and return what was written.

        `changes` is called when the write begins: of two writers that overtake each
        other, the later one still writes the current state.
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
    """Who caused a change, as the router established it, not as the caller claims.

    principal: `token:NAME`, `local:USER` or `local`; empty for the router itself
    client:    the address that the request came from
    """

    principal: str = ""
    client: str = ""


NOBODY = Actor()  # the router itself: time, a probe, the level


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the store's history; `at` in unix seconds.

    by: who made the change by their own statement; `actor` is who it was
    """

    at: float
    change: Change
    hold: Hold
    by: str
    why: str
    actor: Actor = NOBODY


@dataclass(frozen=True, slots=True)
class Found:
    """Holds and overrides that were read from a file, as far as it is readable."""

    holds: tuple[Hold, ...] = ()
    overrides: tuple[Override, ...] = ()


class AuditLog(Protocol):
    """Stores the history over a restart; raises StateError."""

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Store events, oldest first."""


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A hold as a reconcile pass sees it.

    asserted_at: monotonic seconds when it was last placed, also by a notification
    revision:    grows each time; a pass lifts only the revision that it judged
    expires_at:  `until` in monotonic seconds, fixed when the hold was placed: setting
                 the wall clock neither ends nor prolongs it
    """

    hold: Hold
    asserted_at: float
    revision: int
    expires_at: float | None = None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def merged(old: Hold, new: Hold) -> Hold:
    """Merge a hold into an existing one of the same node, kind and source.

    A provisional hold never weakens a confirmed one.
    """
    since = min(old.since, new.since)
    if new.state is not HoldState.PROVISIONAL:
        return replace(new, since=since)
    if old.state is not HoldState.PROVISIONAL:
        return replace(old, since=since)
    return replace(new, since=since, until=_later(old.until, new.until))


def _later(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)
