"""The hold store: who keeps work away from which node, and since when.

Scheduling reads it live; operators, the webhook, probes, live traffic and the reconcile
pass write it. It decides nothing about alerts: `router.alerts.reconcile` does. A change
takes effect at once and is on disk when the call returns. `down` holds are not stored:
a probe finds them again.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from router.errors import StateError
from router.holds.effect import HoldPolicy, blocks, by_alert, policy_of
from router.holds.overrides import Overrides
from router.holds.record import (
    NOBODY,
    Actor,
    AuditEvent,
    AuditLog,
    Change,
    HoldPersistence,
    HoldRecord,
    Key,
    merged,
)
from router.model import Clear, Hold, HoldKind, HoldState, Override

Nodes = Collection[str] | None
_HISTORY = 1000
# Only these can make panic, or derate: thousands of nodes may go down at one time.
_JUDGED = frozenset({HoldKind.DRAIN, HoldKind.EVICT, HoldKind.DERATE})
_MOST_UNARCHIVED = 10_000


class HoldStore:
    """All holds of the fleet; one for the process."""

    def __init__(
        self,
        journal: HoldPersistence,
        clock: Callable[[], float] = time.time,
        panic_ratio: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        overrides: Overrides | None = None,
        archive: AuditLog | None = None,
    ) -> None:
        self._journal = journal
        self._archive = archive
        self.overrides = overrides or Overrides(None, clock, monotonic)
        self._clock = clock
        self._monotonic = monotonic
        self._panic_ratio = panic_ratio
        self._fleet: frozenset[str] = frozenset()
        self._lock = threading.RLock()  # never held over a wait
        self._standing: dict[Key, HoldRecord] = {}
        self._index: defaultdict[str, dict[Key, HoldRecord]] = defaultdict(dict)
        self._by_node: dict[str, tuple[Hold, ...]] = {}
        self._keeping_out: dict[str, tuple[HoldRecord, ...]] = {}
        self._unsaved: set[Key] = set()
        self._uncordoned: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []
        self._followers: list[Callable[[Nodes], None]] = []
        self._subscribers: list[Callable[[AuditEvent], None]] = []
        self._history: deque[AuditEvent] = deque(maxlen=_HISTORY)
        self._unarchived: deque[AuditEvent] = deque(maxlen=_MOST_UNARCHIVED)
        self._revision = 0
        self.version = 0
        self.panic = False
        self.factors: Mapping[str, float] = {}
        self.archive_failures = 0
        self.placed: Counter[HoldKind] = Counter()
        self.lifted: Counter[HoldKind] = Counter()
        for hold in journal.load():
            self._put(hold)
        self._refresh(None)

    # Reading

    def list(self) -> tuple[Hold, ...]:
        """Return every hold, also of nodes that have left the inventory."""
        return tuple(each.hold for each in tuple(self._standing.values()))

    def of(self, node: str) -> tuple[Hold, ...]:
        return self._by_node.get(node, ())

    def standings(self) -> tuple[HoldRecord, ...]:
        return tuple(self._standing.values())

    def standings_of(self, node: str) -> tuple[HoldRecord, ...]:
        return tuple(self._index.get(node, {}).values())

    def history(self) -> tuple[AuditEvent, ...]:
        """Return the newest events, oldest first, as many as are in memory."""
        return tuple(self._history)

    def blocking(self, node: str) -> tuple[Hold, ...]:
        """Return the holds that keep new work from `node`; called for each request."""
        standings = self._keeping_out.get(node)
        if standings is None:
            return ()
        now = self._monotonic()
        return tuple(
            each.hold
            for each in standings
            if not each.expired(now) and not self._ignored(each.hold)
        )

    def blocked(self, among: Nodes = None) -> frozenset[str]:
        """Return the nodes that get no new work, of these or of all."""
        nodes = tuple(self._keeping_out) if among is None else among
        return frozenset(node for node in nodes if self.blocking(node))

    def preview(self, more: Sequence[Hold]) -> tuple[HoldPolicy, HoldPolicy]:
        """Return the effect of the holds in force, and that with `more` holds."""
        now = self._monotonic()
        standing = [e.hold for e in self.standings() if not e.expired(now)]
        return self._effect(standing), self._effect([*standing, *more])

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back after each change, in the greenlet that made it."""
        self._listeners.append(callback)

    def follow(self, callback: Callable[[Nodes], None]) -> None:
        """Call back after each change with the nodes concerned; None: all."""
        self._followers.append(callback)

    def subscribe(self, callback: Callable[[AuditEvent], None]) -> None:
        """Call back with each event as it happens; the callback must not wait."""
        self._subscribers.append(callback)

    # Writing

    def fleet(self, names: Iterable[str], panic_ratio: float | None = None) -> None:
        """Set the nodes of the fleet; panic begins at a share of them."""
        fleet = frozenset(names)
        ratio = self._panic_ratio if panic_ratio is None else panic_ratio
        with self._lock:
            if (fleet, ratio) == (self._fleet, self._panic_ratio):
                return
            self._fleet, self._panic_ratio = fleet, ratio
            before = self.panic
            self._judge()
        if self.panic != before:
            self._notify(None)

    def place(self, hold: Hold, actor: Actor = NOBODY) -> bool:
        """Add a hold, or assert one again; return whether anything changed.

        A hold that is asserted again keeps its earliest `since`, and a notification
        never weakens a confirmed one. Raises StateError: it acts, but is not saved.
        """
        with self._lock:
            old = self._alive(hold.key)
            hold = hold if old is None else merged(old, hold)
            changed = hold != old
            self._put(hold)
            if changed:
                self._mark_unsaved(hold.key)
                self.placed[hold.kind] += old is None
                self._note(Change.PLACED, hold, hold.source, hold.reason, actor)
        self._commit(hold.kind, {hold.node} if changed else ())
        return changed

    def find_down(self, hold: Hold) -> bool:
        """Add a `down` hold; return whether it is the first one of its node."""
        found = any(other.kind is HoldKind.DOWN for other in self.of(hold.node))
        return self.place(hold) and not found

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
        """Confirm a hold; a provisional one no longer expires."""
        return self._alter(
            (node, kind, source),
            lambda hold: replace(
                hold,
                state=HoldState.CONFIRMED,
                until=None if hold.state is HoldState.PROVISIONAL else hold.until,
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
        """Mark a hold unverified: the alert is gone, the node not proven healthy."""
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
        actor: Actor = NOBODY,
    ) -> bool:
        """Lift a hold; with `revision`, only if it is still the current one."""
        with self._lock:
            lifted = self._drop((node, kind, source), by, why, revision, actor)
        self._commit(kind, {node} if lifted else ())
        return lifted

    def annotate(self, standing: HoldRecord, change: Change, by: str, why: str) -> None:
        """Add an event to the history that changes no hold."""
        with self._lock:
            self._note(change, standing.hold, by, why)

    def override(self, override: Override, actor: Actor = NOBODY) -> None:
        """Ignore an alert on a node; raises StateError when that is not saved."""
        with self._lock:
            self.overrides.put(override)
            self._note_override(Change.OVERRIDDEN, override, override.by, actor)
        self._commit_overrides()

    def end_override(
        self, node: str, alert: str, by: str, actor: Actor = NOBODY
    ) -> bool:
        """End an override; return False where there was none."""
        with self._lock:
            ended = self.overrides.drop(node, alert)
            if ended is None:
                return False
            self._note_override(Change.OVERRIDE_ENDED, ended, by, actor)
        self._commit_overrides()
        return True

    def adopt(self, found: Sequence[Hold], why: str) -> int:
        """Add holds found in a file that became readable later, and save all holds.

        Holds that were lifted meanwhile stay lifted. Returns how many were new; raises
        StateError.
        """
        with self._lock:
            late = [hold for hold in found if self._is_news(hold)]
            for hold in late:
                self._put(hold)
                self._note(Change.PLACED, hold, hold.source, why)
            for key in self._standing:
                self._mark_unsaved(key)
        self._commit(HoldKind.DRAIN, {hold.node for hold in late})
        return len(late)

    def archive_no_more(self) -> None:
        """Stop writing the history: another router has taken over."""
        self._archive = None

    def uncordoned(self, node: str) -> None:
        """Note that an operator lifted a node's cordons, also those found later."""
        self._uncordoned[node] = self._clock()

    def expire(self) -> None:
        """Drop what has expired, and retry what could not be saved."""
        with self._lock:
            now = self._monotonic()
            over = [each.hold for each in self.standings() if each.expired(now)]
            for hold in over:
                self._drop(hold.key, "time", _ran_out(hold), None)
            ended = self.overrides.drop_expired()
            for override in ended:
                self._note_override(Change.OVERRIDE_ENDED, override, "time")
        if ended:
            self._commit_overrides()
        self._commit(HoldKind.DRAIN, {hold.node for hold in over})

    # Inside

    def _is_news(self, hold: Hold) -> bool:
        if hold.key in self._standing or hold.key in self._unsaved:
            return False
        lifted = hold.kind is HoldKind.CORDON and hold.since <= self._uncordoned.get(
            hold.node, -math.inf
        )
        return not lifted and (hold.until is None or hold.until > self._clock())

    def _alive(self, key: Key) -> Hold | None:
        standing = self._standing.get(key)
        if standing is None:
            return None
        if standing.expired(self._monotonic()):
            self._drop(key, "time", _ran_out(standing.hold), None)
            return None
        return standing.hold

    def _put(self, hold: Hold) -> None:
        self._revision += 1
        now = self._monotonic()
        end = None if hold.until is None else now + hold.until - self._clock()
        self._keep(hold.key, HoldRecord(hold, now, self._revision, end))

    def _keep(self, key: Key, standing: HoldRecord) -> None:
        self._standing[key] = self._index[key[0]][key] = standing

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
                end = None if hold.until is None else standing.expires_at
                self._keep(key, replace(standing, hold=hold, expires_at=end))
                self._mark_unsaved(key)
                self._note(kind, hold, "level", why)
        self._commit(key[1], {key[0]} if changed else ())
        return changed

    def _drop(
        self,
        key: Key,
        by: str,
        why: str,
        revision: int | None,
        actor: Actor = NOBODY,
    ) -> bool:
        standing = self._standing.get(key)
        if standing is None or revision not in (None, standing.revision):
            return False
        del self._standing[key]
        del self._index[key[0]][key]
        self._mark_unsaved(key)
        self.lifted[standing.hold.kind] += 1
        self._note(Change.LIFTED, standing.hold, by, why, actor)
        return True

    def _mark_unsaved(self, key: Key) -> None:
        if key[1] is not HoldKind.DOWN:
            self._unsaved.add(key)

    def _note(
        self, change: Change, hold: Hold, by: str, why: str, actor: Actor = NOBODY
    ) -> None:
        event = AuditEvent(self._clock(), change, hold, by, why, actor)
        self._history.append(event)
        self._unarchived.append(event)
        for subscribe in self._subscribers:
            subscribe(event)

    def _note_override(
        self, change: Change, override: Override, by: str, actor: Actor = NOBODY
    ) -> None:
        hold = Hold(
            override.node,
            HoldKind.DRAIN,
            f"alert:{override.alert}",
            override.reason,
            override.since,
            override.until,
        )
        self._note(change, hold, by, override.reason, actor)

    def _commit_overrides(self) -> None:
        with self._lock:
            self._judge()
        self._notify(None)
        self.overrides.save()
        self._write_history()

    def _commit(self, kind: HoldKind, nodes: Collection[str]) -> None:
        """Apply a change, then write it to disk; requests never wait for that."""
        if nodes:
            with self._lock:
                before = self.panic, self.factors
                self._refresh(nodes)
                if kind in _JUDGED:
                    self._judge()
                alone = before == (self.panic, self.factors)
            self._notify(frozenset(nodes) if alone else None)
        if self._unsaved and kind is not HoldKind.DOWN:
            written = self._journal.save(self._changes)
            with self._lock:
                self._forget_saved(written)
        if kind is not HoldKind.DOWN:
            self._write_history()

    def _write_history(self) -> None:
        """Write events to the history file; they are kept for later where it fails."""
        if self._archive is None or not self._unarchived:
            return
        events, self._unarchived = self._unarchived, deque(maxlen=_MOST_UNARCHIVED)
        try:
            self._archive.append(tuple(events))
        except StateError:
            self.archive_failures += 1
            self._unarchived.extendleft(reversed(events))

    def _notify(self, nodes: Nodes) -> None:
        self.version += 1
        for callback in self._listeners:
            callback()
        for follower in self._followers:
            follower(nodes)

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

    def _refresh(self, nodes: Nodes) -> None:
        """Rebuild the indexes that are read by node, for these nodes or all."""
        for node in tuple(self._index) if nodes is None else nodes:
            found = tuple(self._index.get(node, {}).values())
            keeping = tuple(each for each in found if blocks(each.hold))
            if found:
                self._by_node[node] = tuple(each.hold for each in found)
            else:
                self._by_node.pop(node, None)
                self._index.pop(node, None)
            if keeping:
                self._keeping_out[node] = keeping
            else:
                self._keeping_out.pop(node, None)
        if nodes is None:
            self._judge()

    def _judge(self) -> None:
        """Compute panic and the factors of derated nodes."""
        now = self._monotonic()
        effect = self._effect([e.hold for e in self.standings() if not e.expired(now)])
        self.panic, self.factors = effect.panic, effect.factors

    def _effect(self, holds: Sequence[Hold]) -> HoldPolicy:
        return policy_of(holds, self._fleet, self._panic_ratio, self.overrides.cover)

    def _ignored(self, hold: Hold) -> bool:
        return by_alert(hold) and (self.panic or self.overrides.cover(hold))


def _ran_out(hold: Hold) -> str:
    if hold.state is HoldState.PROVISIONAL:
        return "no pass confirmed it in time"
    return "its time is over"
