"""The hold store: who keeps work away from which node, and since when.

Read live by dispatch's filters and written by operators, the webhook, probes,
live traffic and the level pass. It decides nothing about alerts: that is
`router.control.level`'s. A change acts at once; it is on disk when the call
that made it returns (`down` holds are not kept: a probe finds them again).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from router.model import Clear, Hold, HoldKind, HoldState

__all__ = ["Change", "Event", "HoldStore", "Journal", "Key", "Standing", "by_alert"]

Key = tuple[str, HoldKind, str]

_HISTORY = 1000


class Journal(Protocol):
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


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the store's history; `at` in unix seconds."""

    at: float
    change: Change
    hold: Hold
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A hold as the level pass judges it.

    asserted_at: monotonic seconds when it was last placed, rings included
    revision:    grows each time; a pass lifts only the revision that it judged
    """

    hold: Hold
    asserted_at: float
    revision: int


class HoldStore:
    """All holds of the fleet; one for the process."""

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], float] = time.time,
        panic_ratio: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._monotonic = monotonic
        self._panic_ratio = panic_ratio
        self._fleet: frozenset[str] = frozenset()
        self._lock = threading.RLock()  # never held over a wait
        self._standing: dict[Key, Standing] = {}
        self._by_node: dict[str, tuple[Hold, ...]] = {}
        self._unsaved: set[Key] = set()
        self._listeners: list[Callable[[], None]] = []
        self._history: deque[Event] = deque(maxlen=_HISTORY)
        self._revision = 0
        self.version = 0
        self.panic = False
        self.placed: Counter[HoldKind] = Counter()
        self.lifted: Counter[HoldKind] = Counter()
        for hold in journal.load():
            self._put(hold)
        self._refresh()

    # Reading

    def list(self) -> tuple[Hold, ...]:
        """Give every hold on record, also of nodes that left the inventory."""
        return tuple(each.hold for each in tuple(self._standing.values()))

    def of(self, node: str) -> tuple[Hold, ...]:
        return self._by_node.get(node, ())

    def standings(self) -> tuple[Standing, ...]:
        return tuple(self._standing.values())

    def history(self) -> tuple[Event, ...]:
        """Give what happened, oldest first, as far back as it is kept."""
        return tuple(self._history)

    def blocking(self, node: str) -> tuple[Hold, ...]:
        """Give the holds that keep new work from `node` now; called per request."""
        holds = self._by_node.get(node)
        if holds is None:
            return ()
        now = self._clock()
        return tuple(
            hold
            for hold in holds
            if not _expired(hold, now) and not (self.panic and by_alert(hold))
        )

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back after each change, in the greenlet that made it."""
        self._listeners.append(callback)

    # Writing

    def fleet(self, names: Iterable[str], panic_ratio: float | None = None) -> None:
        """Say which nodes the fleet has: panic is a share of these."""
        with self._lock:
            self._fleet = frozenset(names)
            if panic_ratio is not None:
                self._panic_ratio = panic_ratio
            before = self.panic
            self._refresh()
        if self.panic != before:
            self._tell()

    def place(self, hold: Hold) -> bool:
        """Add a hold, or assert one again; says whether anything changed.

        The same identity keeps its earliest `since`; a ring of the doorbell
        never weakens a hold that the level has confirmed.
        """
        with self._lock:
            old = self._alive(hold.key)
            hold = hold if old is None else _merged(old, hold)
            changed = hold != old
            self._put(hold)
            if changed:
                self._stain(hold.key)
                self.placed[hold.kind] += old is None
                self._note(Change.PLACED, hold, hold.source, hold.reason)
        self._settle(hold.kind, changed=changed)
        return changed

    def confirm(
        self,
        node: str,
        kind: HoldKind,
        source: str,
        *,
        labels: Mapping[str, str] | None = None,
        clear: Clear | None = None,
        revision: int | None = None,
    ) -> bool:
        """Mark a hold as certain: a ring's time limit falls away."""
        return self._alter(
            (node, kind, source),
            lambda hold: replace(
                hold,
                state=HoldState.CONFIRMED,
                until=None if hold.state is HoldState.DOORBELL else hold.until,
                clear=clear or hold.clear,
                labels=hold.labels if labels is None else dict(labels),
            ),
            Change.CONFIRMED,
            "the alert fires",
            revision,
        )

    def mark_unknown(
        self,
        node: str,
        kind: HoldKind,
        source: str,
        *,
        why: str,
        revision: int | None = None,
    ) -> bool:
        """Mark a hold whose alert is gone while nothing proves the node well."""
        return self._alter(
            (node, kind, source),
            lambda hold: replace(hold, state=HoldState.UNKNOWN),
            Change.DOUBTED,
            why,
            revision,
        )

    def lift(
        self,
        node: str,
        kind: HoldKind,
        source: str,
        *,
        by: str,
        why: str,
        revision: int | None = None,
    ) -> bool:
        """Take a hold away; with `revision`, only if it is still that one."""
        with self._lock:
            lifted = self._drop((node, kind, source), by, why, revision)
        self._settle(kind, changed=lifted)
        return lifted

    def expire(self) -> None:
        """Drop what has run out, and save again what could not be saved."""
        with self._lock:
            now = self._clock()
            over = [each.hold for each in self.standings() if _expired(each.hold, now)]
            for hold in over:
                self._drop(hold.key, "time", _ran_out(hold), None)
        self._settle(HoldKind.DRAIN, changed=bool(over))

    # Inside

    def _alive(self, key: Key) -> Hold | None:
        hold = self._now(key)
        if hold is not None and _expired(hold, self._clock()):
            self._drop(key, "time", _ran_out(hold), None)
            return None
        return hold

    def _put(self, hold: Hold) -> None:
        self._revision += 1
        self._standing[hold.key] = Standing(hold, self._monotonic(), self._revision)

    def _alter(
        self,
        key: Key,
        change: Callable[[Hold], Hold],
        kind: Change,
        why: str,
        revision: int | None,
    ) -> bool:
        with self._lock:
            standing = self._standing.get(key)
            if standing is None or revision not in (None, standing.revision):
                return False
            hold = change(standing.hold)
            changed = hold != standing.hold
            if changed:
                self._standing[key] = replace(standing, hold=hold)
                self._stain(key)
                self._note(kind, hold, "level", why)
        self._settle(key[1], changed=changed)
        return changed

    def _drop(self, key: Key, by: str, why: str, revision: int | None) -> bool:
        standing = self._standing.get(key)
        if standing is None or revision not in (None, standing.revision):
            return False
        del self._standing[key]
        self._stain(key)
        self.lifted[standing.hold.kind] += 1
        self._note(Change.LIFTED, standing.hold, by, why)
        return True

    def _stain(self, key: Key) -> None:
        if key[1] is not HoldKind.DOWN:
            self._unsaved.add(key)

    def _note(self, change: Change, hold: Hold, by: str, why: str) -> None:
        self._history.append(Event(self._clock(), change, hold, by, why))

    def _settle(self, kind: HoldKind, *, changed: bool) -> None:
        """Act on a change first, then wait for the disk (traffic never waits)."""
        if changed:
            with self._lock:
                self._refresh()
            self._tell()
        if self._unsaved and kind is not HoldKind.DOWN:
            written = self._journal.save(self._changes)
            with self._lock:
                self._forget_saved(written)

    def _tell(self) -> None:
        self.version += 1
        for callback in self._listeners:
            callback()

    def _changes(self) -> Mapping[Key, Hold | None]:
        # Called in the database's thread: one copy, which is atomic, and no lock,
        # or that thread could wait for the event loop's.
        unsaved = self._unsaved.copy()
        return {key: self._now(key) for key in unsaved}

    def _now(self, key: Key) -> Hold | None:
        standing = self._standing.get(key)
        return standing.hold if standing else None

    def _forget_saved(self, written: Mapping[Key, Hold | None]) -> None:
        for key, hold in written.items():
            if self._now(key) is hold:
                self._unsaved.discard(key)

    def _refresh(self) -> None:
        by_node: defaultdict[str, list[Hold]] = defaultdict(list)
        for each in self._standing.values():
            by_node[each.hold.node].append(each.hold)
        self._by_node = {node: tuple(holds) for node, holds in by_node.items()}
        now = self._clock()
        drained = {
            each.hold.node
            for each in self._standing.values()
            if by_alert(each.hold) and not _expired(each.hold, now)
        }
        self.panic = len(drained & self._fleet) > self._panic_ratio * len(self._fleet)


def by_alert(hold: Hold) -> bool:
    """Say whether an alert placed this hold: panic ignores those, and only those."""
    return hold.kind is HoldKind.DRAIN and hold.source.startswith("alert:")


def _expired(hold: Hold, now: float) -> bool:
    return hold.until is not None and hold.until <= now


def _ran_out(hold: Hold) -> str:
    if hold.state is HoldState.DOORBELL:
        return "no pass confirmed it in time"
    return "its time is over"


def _merged(old: Hold, new: Hold) -> Hold:
    """Put a hold over the one of the same identity."""
    since = min(old.since, new.since)
    if new.state is not HoldState.DOORBELL:
        return replace(new, since=since)
    if old.state is not HoldState.DOORBELL:
        return replace(old, since=since)
    return replace(new, since=since, until=_later(old.until, new.until))


def _later(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)
