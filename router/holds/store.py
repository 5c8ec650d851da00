"""The hold store: who keeps work away from which node, and since when.

Read live by dispatch's filters and written by operators, the webhook, probes,
live traffic and the level pass. It decides nothing about alerts: that is
`router.alerts.reconcile`'s. A change acts at once; it is on disk when the call
that made it returns (`down` holds are not kept: a probe finds them again).
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

__all__ = [
    "AuditEvent",
    "AuditLog",
    "Change",
    "HoldPersistence",
    "HoldRecord",
    "HoldStore",
    "Key",
    "by_alert",
]

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
        """Give every hold on record, also of nodes that left the inventory."""
        return tuple(each.hold for each in tuple(self._standing.values()))

    def of(self, node: str) -> tuple[Hold, ...]:
        return self._by_node.get(node, ())

    def standings(self) -> tuple[HoldRecord, ...]:
        return tuple(self._standing.values())

    def standings_of(self, node: str) -> tuple[HoldRecord, ...]:
        return tuple(self._index.get(node, {}).values())

    def history(self) -> tuple[AuditEvent, ...]:
        """Give what happened, oldest first, as far back as it is kept."""
        return tuple(self._history)

    def blocking(self, node: str) -> tuple[Hold, ...]:
        """Give the holds that keep new work from `node` now; called per request."""
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
        """Name the nodes that get no new work now; of these, or of all."""
        nodes = tuple(self._keeping_out) if among is None else among
        return frozenset(node for node in nodes if self.blocking(node))

    def preview(self, more: Sequence[Hold]) -> tuple[HoldPolicy, HoldPolicy]:
        """Say what stands now comes to, and what it would with `more` holds."""
        now = self._monotonic()
        standing = [e.hold for e in self.standings() if not e.expired(now)]
        return self._effect(standing), self._effect([*standing, *more])

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back after each change, in the greenlet that made it."""
        self._listeners.append(callback)

    def follow(self, callback: Callable[[Nodes], None]) -> None:
        """Call back after each change with the nodes that it is about; None: all."""
        self._followers.append(callback)

    def subscribe(self, callback: Callable[[AuditEvent], None]) -> None:
        """Call back with each event as it happens; the callback must not wait."""
        self._subscribers.append(callback)

    # Writing

    def fleet(self, names: Iterable[str], panic_ratio: float | None = None) -> None:
        """Say which nodes the fleet has: panic is a share of these."""
        fleet = frozenset(names)
        ratio = self._panic_ratio if panic_ratio is None else panic_ratio
        with self._lock:
            if (fleet, ratio) == (self._fleet, self._panic_ratio):
                return
            self._fleet, self._panic_ratio = fleet, ratio
            before = self.panic
            self._judge()
        if self.panic != before:
            self._tell(None)

    def place(self, hold: Hold, actor: Actor = NOBODY) -> bool:
        """Add a hold, or assert one again; says whether anything changed.

        The same identity keeps its earliest `since`; a notification
        never weakens a hold that the level has confirmed.
        """
        with self._lock:
            old = self._alive(hold.key)
            hold = hold if old is None else merged(old, hold)
            changed = hold != old
            self._put(hold)
            if changed:
                self._stain(hold.key)
                self.placed[hold.kind] += old is None
                self._note(Change.PLACED, hold, hold.source, hold.reason, actor)
        self._settle(hold.kind, {hold.node} if changed else ())
        return changed

    def find_down(self, hold: Hold) -> bool:
        """Add a `down` hold; says whether nothing had found its node down before."""
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
        """Mark a hold as certain: a ring's time limit falls away."""
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
        actor: Actor = NOBODY,
    ) -> bool:
        """Take a hold away; with `revision`, only if it is still that one."""
        with self._lock:
            lifted = self._drop((node, kind, source), by, why, revision, actor)
        self._settle(kind, {node} if lifted else ())
        return lifted

    def annotate(self, standing: HoldRecord, change: Change, by: str, why: str) -> None:
        """Put into the history what changes nothing in itself."""
        with self._lock:
            self._note(change, standing.hold, by, why)

    def override(self, override: Override, actor: Actor = NOBODY) -> None:
        """Have an alert ignored on a node; raises StateError when it is not saved."""
        with self._lock:
            self.overrides.put(override)
            self._note_override(Change.OVERRIDDEN, override, override.by, actor)
        self._settle_overrides()

    def end_override(
        self, node: str, alert: str, by: str, actor: Actor = NOBODY
    ) -> bool:
        """Have an alert count again; False where nothing was overridden."""
        with self._lock:
            ended = self.overrides.drop(node, alert)
            if ended is None:
                return False
            self._note_override(Change.OVERRIDE_ENDED, ended, by, actor)
        self._settle_overrides()
        return True

    def adopt(self, found: Sequence[Hold], why: str) -> int:
        """Take over holds that were found late, and have all saved again.

        What was lifted meanwhile stays so. Returns how many were news; raises
        StateError.
        """
        with self._lock:
            late = [hold for hold in found if self._is_news(hold)]
            for hold in late:
                self._put(hold)
                self._note(Change.PLACED, hold, hold.source, why)
            for key in self._standing:
                self._stain(key)
        self._settle(HoldKind.DRAIN, {hold.node for hold in late})
        return len(late)

    def archive_no_more(self) -> None:
        """Leave the history to the router that has taken over."""
        self._archive = None

    def uncordoned(self, node: str) -> None:
        """Hear that an operator lifted a node's cordons, those found later as well."""
        self._uncordoned[node] = self._clock()

    def expire(self) -> None:
        """Drop what has run out, and save again what could not be saved."""
        with self._lock:
            now = self._monotonic()
            over = [each.hold for each in self.standings() if each.expired(now)]
            for hold in over:
                self._drop(hold.key, "time", _ran_out(hold), None)
            ended = self.overrides.drop_expired()
            for override in ended:
                self._note_override(Change.OVERRIDE_ENDED, override, "time")
        if ended:
            self._settle_overrides()
        self._settle(HoldKind.DRAIN, {hold.node for hold in over})

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
                self._stain(key)
                self._note(kind, hold, "level", why)
        self._settle(key[1], {key[0]} if changed else ())
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
        self._stain(key)
        self.lifted[standing.hold.kind] += 1
        self._note(Change.LIFTED, standing.hold, by, why, actor)
        return True

    def _stain(self, key: Key) -> None:
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

    def _settle_overrides(self) -> None:
        with self._lock:
            self._judge()
        self._tell(None)
        self.overrides.save()
        self._put_away()

    def _settle(self, kind: HoldKind, nodes: Collection[str]) -> None:
        """Act on a change first, then wait for the disk (traffic never waits)."""
        if nodes:
            with self._lock:
                before = self.panic, self.factors
                self._refresh(nodes)
                if kind in _JUDGED:
                    self._judge()
                alone = before == (self.panic, self.factors)
            self._tell(frozenset(nodes) if alone else None)
        if self._unsaved and kind is not HoldKind.DOWN:
            written = self._journal.save(self._changes)
            with self._lock:
                self._forget_saved(written)
        if kind is not HoldKind.DOWN:
            self._put_away()

    def _put_away(self) -> None:
        """Archive the history so far; it is tried again where the disk is full."""
        if self._archive is None or not self._unarchived:
            return
        events, self._unarchived = self._unarchived, deque(maxlen=_MOST_UNARCHIVED)
        try:
            self._archive.append(tuple(events))
        except StateError:
            self.archive_failures += 1
            self._unarchived.extendleft(reversed(events))

    def _tell(self, nodes: Nodes) -> None:
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
        """Bring up to date what is read by node: of these, or of all."""
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
        """Say whether it is panic, and what derated nodes have left."""
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
