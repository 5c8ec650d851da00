"""Slots in use and learned speeds of every node; the one place that counts them.

A slot is a lease. It ends with an outcome, once, whatever else goes wrong.
Nothing in here waits, so under gevent each method is one atomic step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from typing import Protocol

from router.capacity.ceiling import Growth, Run
from router.capacity.concurrency import Occupancy
from router.capacity.external_load import Expiries, ForeignLoad, Sign, Suspicion
from router.capacity.ramp import Easing
from router.capacity.recovered import Leftovers
from router.capacity.slot_policy import LearnedSlots, Limits, SlotPolicy
from router.capacity.throughput import Curve
from router.model import Node, Outcome, Timings
from router.snapshot import Snapshot

_SHARE = 0.1  # of a new reading of how long a slot is held
_TELLING = 32  # tokens: a shorter reply shows the moment, such as another's prompt
_ENOUGH_ENDS = 5
# Polls, passes and our own ends are seen at different times.
_OWN_END_SECONDS = 15.0
# Of a node and model nobody asks for any more, the oldest are forgotten.
_MOST_CURVES = 4096

Key = tuple[str, str]


class Evictable(Protocol):
    """What a lease is used for, as an eviction sees it (`router.relay.upstream`)."""

    @property
    def movable(self) -> bool: ...

    @property
    def answered(self) -> bool: ...

    @property
    def mark(self) -> object:
        """Return what differs after the node took or said anything."""

    def moved_within(self, seconds: float) -> bool:
        """Say whether the node took or said something of it, before its first line."""

    def evict(self) -> bool: ...

    def abandon(self, why: str) -> bool: ...


class Lease:
    """One slot of one node, held by one request.

    decoding_since: when the first line came; for replies that do not tell their
                    own times (`/v1`)
    reply:          what runs on the slot, once it was sent
    tried:          nodes that this request is not to go to any more
    streams, first_token_seconds, resident: see `router.metrics.replies.InFlight`
    """

    __slots__ = (
        "_end",
        "_revoked",
        "_yielding",
        "decoding_since",
        "first_token_seconds",
        "model",
        "node",
        "reply",
        "resident",
        "streams",
        "taken_at",
        "tried",
        "yields",
    )

    def __init__(
        self,
        node: str,
        model: str,
        taken_at: float,
        end: Callable[[Lease, Outcome, Timings | None], None],
        yielding: Callable[[str], None],
    ) -> None:
        self.node = node
        self.model = model
        self.taken_at = taken_at
        self.decoding_since: float | None = None
        self.reply: Evictable | None = None
        self.tried: frozenset[str] = frozenset()
        self.streams = False
        self.first_token_seconds: float | None = None
        self.resident: bool | None = None
        self._end: Callable[[Lease, Outcome, Timings | None], None] | None = end
        self._revoked: Callable[[], None] | None = None
        self._yielding = yielding
        self.yields = False

    def done(self, outcome: Outcome, timings: Timings | None = None) -> None:
        """Give the slot back; calls after the first do nothing."""
        end, self._end = self._end, None
        self._revoked = self.reply = None
        if end:
            end(self, outcome, timings)

    def allow_revoking(self, revoked: Callable[[], None]) -> None:
        """Let a person have this slot; `revoked` must end the request soon."""
        self._revoked = revoked
        if not self.yields and self._end:
            self.yields = True
            self._yielding(self.node)

    @property
    def revocable(self) -> bool:
        return self._revoked is not None

    def revoke(self) -> bool:
        """Take the lease back for a person; False where that is not allowed.

        The slot is free once the request has ended (`Outcome.REVOKED`), not
        before: Ollama runs it until then.
        """
        revoked, self._revoked = self._revoked, None
        if revoked:
            revoked()
        return revoked is not None


class Ledger:
    """Counts what is in flight; a `router.snapshot.LoadView`.

    pressed: whether requests wait for a slot; the dispatcher says so
    """

    def __init__(
        self,
        default_slots: int,
        clock: Callable[[], float],
        policy: SlotPolicy | None = None,
    ) -> None:
        self.default_slots = default_slots
        self.pressed = False
        self.growth = Growth()
        self.curves: dict[Key, Curve] = {}
        self.expiries = Expiries()
        self.easing = Easing()
        self._policy = policy or LearnedSlots()
        self._clock = clock
        self._configured: dict[str, int | None] = {}
        self._nodes: dict[str, Occupancy] = {}
        self._leases: dict[str, dict[Lease, None]] = {}
        self._limits: dict[Key, Limits] = {}
        self._yielding: dict[str, int] = {}  # leases that a person may have, by node
        self._people_left: dict[str, float] = {}
        self._ends: dict[str, tuple[int, float]] = {}
        self._last_end: dict[Key, float] = {}
        self._latest: dict[str, str] = {}
        self._foreign = ForeignLoad()
        self._leftovers = Leftovers()
        self._listeners: list[Callable[[Lease, Outcome, Timings | None], None]] = []

    def configure(self, nodes: Iterable[Node]) -> None:
        """Take over the ceilings of the inventory; leases under way go on."""
        self._configured = {n.name: n.slots for n in nodes}
        now = self._clock()
        for key in self.curves:
            self._set_limits(key, now)

    def listen(
        self, callback: Callable[[Lease, Outcome, Timings | None], None]
    ) -> None:
        """Call back after each lease that ended."""
        self._listeners.append(callback)

    # Counts

    def slots(self, node: str) -> int:
        """Return the ceiling: configured, else learned, else the default."""
        slots = self._configured.get(node, 0)
        if slots is None:
            return self.growth.learned.get(node, self.default_slots)
        return slots

    def limit(self, node: str, model: str) -> int:
        """Return the slots that may be used for this model now."""
        slots = self.slots(node)
        limits = self._limits.get((node, model)) if self._limits else None
        if limits is not None:
            slots = min(slots, limits.pressed if self.pressed else limits.idle)
        if self.easing.active:
            slots = self.easing.slots(node, slots, self._clock)
        if self._foreign.suspicions and slots:
            return max(1, slots - self._foreign.streams(node, self._clock()))
        return slots

    def in_flight(self, node: str) -> int:
        occupancy = self._nodes.get(node)
        return occupancy.count if occupancy else 0

    def free(self, node: str) -> int:
        return self.slots(node) - self.in_flight(node)

    def streams(self, node: str) -> int:
        """Return what runs there as far as is known or suspected."""
        now = self._clock()
        others = self._foreign.streams(node, now) + self._leftovers.count(node, now)
        return self.in_flight(node) + others

    def room(self, node: str, model: str, *, item: bool = False) -> int | None:
        """Return how many streams run there; None where no slot is free.

        What yields to a person is not counted, but for another `item`.
        """
        occupancy = self._nodes.get(node)
        taken = occupancy.count if occupancy else 0
        if self._yielding and not item:
            taken -= self._yielding.get(node, 0)
        if self._leftovers.counts:
            taken += self._leftovers.count(node, self._clock())
        if taken >= self.limit(node, model):
            return None
        if self._foreign.suspicions:
            taken += self._foreign.streams(node, self._clock())
        return taken

    def running(self, node: str) -> int:
        """Return what the router itself has running there, or may have left there."""
        return self.in_flight(node) + self.leftover(node)

    def usable(self, node: str) -> int:
        """Return the slots that may be used now, for the model it was last asked."""
        return self.limit(node, self._latest.get(node, ""))

    def quiet_seconds(self, node: str) -> float:
        """Return how long ago the last lease ended there that yields to nobody."""
        return self._clock() - self._people_left.get(node, -inf)

    def leases(self, node: str) -> tuple[Lease, ...]:
        """Return the node's leases, oldest first."""
        return tuple(self._leases.get(node, ()))

    # What was learned

    def speed(self, node: str, model: str, streams: int = 1) -> float | None:
        curve = self.curves.get((node, model))
        speed = curve.speed(streams) if curve else None
        if speed is not None and self.easing.active:
            return speed * self.easing.factor(node)
        return speed

    def speeds(self) -> dict[Key, float]:
        return {key: speed for key, c in self.curves.items() if (speed := c.speed(1))}

    def totals(self) -> dict[Key, dict[int, float]]:
        """Return the learned totals in tokens/s, by key and number of streams."""
        return {key: curve.totals() for key, curve in self.curves.items()}

    def slot_seconds(self, node: str) -> float | None:
        """Return how long a slot of the node is held; None while too few ended."""
        ends, seconds = self._ends.get(node, (0, 0.0))
        return seconds if ends >= _ENOUGH_ENDS else None

    def foreign(self, node: str) -> Suspicion | None:
        return self._foreign.suspicion(node, self._clock())

    def foreign_streams(self, node: str) -> int:
        return self._foreign.streams(node, self._clock())

    def ramp(self, node: str) -> float:
        """Return the share of its slots that a node which came back may use."""
        return self.easing.ramp(node, self._clock())

    def leftover(self, node: str) -> int:
        return self._leftovers.count(node, self._clock())

    # Changes

    def take(self, node: str, model: str) -> Lease:
        """Reserve a slot; the caller has seen that one is free."""
        now = self._clock()
        self._nodes.setdefault(node, Occupancy()).change(1, now)
        self._latest[node] = model
        lease = Lease(node, model, now, self._ended, self._yields)
        self._leases.setdefault(node, {})[lease] = None
        return lease

    def take_back(self, node: str) -> bool:
        """Revoke what yields to a person; False where nothing does, or did just now.

        Streams that share a node slow each other: a slot that is free is not enough.
        """
        if node not in self._yielding:
            return False
        for lease in self.leases(node):
            lease.revoke()
        return True

    def may_try_one_more(self, node: str, model: str) -> bool:
        """Say whether the unknown ceiling of a full node may be tried now.

        Only where the model ran before, so that a wait can be told from a load.
        """
        return (
            self._configured.get(node, 1) is None
            and not self.pressed
            and (node, model) in self.curves
            and self.streams(node) == self.slots(node) == self.limit(node, model)
            and self.growth.may_try(node, self.slots(node), self._clock())
        )

    def take_one_more(self, node: str, model: str) -> Lease:
        """Reserve beyond the known ceiling, as a trial."""
        others = self.leases(node)
        lease = self.take(node, model)
        self.growth.begin(node, lease, others)
        return lease

    def recall(
        self, counts: dict[str, int], expiries: dict[str, dict[str, str]], until: float
    ) -> None:
        """Take over what the last router had in flight; see `leftover`."""
        self._leftovers = Leftovers(counts, until)
        self.expiries.seen = expiries

    def look(self, snapshot: Snapshot) -> None:
        """Take what the polls saw: who fell idle, and whether by our doing."""
        now = self._clock()
        for node, view in snapshot.nodes.items():
            if view.resident is None:
                continue
            idle = self.expiries.moved(node, view.resident)
            explained = self._leftovers.count(node, now) > 0
            self._leftovers.looked(node, view.resident, idle)
            for model in idle:
                if not (explained or self._ours((node, model), now)):
                    self._foreign.suspect(node, Sign.EXPIRY, now)

    def _ours(self, key: Key, now: float) -> bool:
        ended = self._last_end.get(key)
        if ended is not None and now - ended <= _OWN_END_SECONDS:
            return True
        return any(lease.model == key[1] for lease in self._leases.get(key[0], ()))

    def _ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        now = self._clock()
        node = lease.node
        occupancy = self._nodes[node]
        told = _completed(timings, lease, now)
        streams = None
        if told and told.generate_seconds:
            # The node's clock may run a little faster than ours.
            spent = min(told.generate_seconds, now - lease.taken_at)
            streams = occupancy.steady(spent, now)
        occupancy.change(-1, now)
        if lease.yields:
            self._yields(node, -1)
        else:
            self._people_left[node] = now
        del self._leases[node][lease]
        self._last_end[node, lease.model] = now
        self._try_ended(lease, told, now)
        if outcome in {Outcome.END, Outcome.CLIENT_GONE}:
            self._count_end(node, now - lease.taken_at)
        if told and streams:
            self._learn(lease, told, streams, now)
        for callback in self._listeners:
            callback(lease, outcome, timings)

    def _yields(self, node: str, by: int = 1) -> None:
        count = self._yielding.pop(node, 0) + by
        if count:
            self._yielding[node] = count

    def _try_ended(self, lease: Lease, timings: Timings | None, now: float) -> None:
        node = lease.node
        run = _run(lease, timings, now)
        trial = self.growth.on_trial(node)
        self.growth.ended(node, lease, run, now)
        # While a trial runs, its neighbours may wait because of it.
        if trial or run is None or not run.delayed:
            return
        self._foreign.suspect(node, Sign.WAITED, now)
        if self._configured.get(node, 1) is None:
            self.growth.contradict(node, now)

    def _count_end(self, node: str, seconds: float) -> None:
        ends, known = self._ends.get(node, (0, seconds))
        share = max(_SHARE, 1 / (ends + 1))
        self._ends[node] = (ends + 1, known + share * (seconds - known))

    def _learn(self, lease: Lease, timings: Timings, streams: int, now: float) -> None:
        seen = timings.tokens_per_second
        if seen is None:
            return
        key = (lease.node, lease.model)
        curve = self.curves.pop(key, None) or Curve()
        self.curves[key] = curve  # the newest stands last
        if len(self.curves) > _MOST_CURVES:
            self._forget(next(iter(self.curves)))
        telling = min(1.0, timings.generated_tokens / _TELLING)
        if self._foreign.suspicions and self._foreign.streams(lease.node, now):
            # Who knows how many there were: others', or a moment that was no k's.
            ratio = curve.keep_pace(streams, seen, telling)
        else:
            ratio = curve.learn(streams, seen, now, telling)
        # A `/v1` reply's time is its client's as well: a slow reader proves nothing.
        if ratio is not None and timings.prompt_seconds and telling == 1.0:
            self._foreign.replied(lease.node, ratio, now)
        ceiling = self.slots(lease.node)
        self._policy.replied(key, curve, ceiling, streams, pressed=self.pressed)
        self._set_limits(key, now)

    def _set_limits(self, key: Key, now: float) -> None:
        ceiling = self.slots(key[0])
        limits = self._policy.limits(key, self.curves[key], ceiling, now)
        if min(limits.pressed, limits.idle) < ceiling:
            self._limits[key] = limits
        else:
            self._limits.pop(key, None)

    def _forget(self, key: Key) -> None:
        del self.curves[key]
        self._limits.pop(key, None)
        self._last_end.pop(key, None)


class ItemsCounted:
    """A `router.snapshot.LoadView` for who takes nothing back from jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self.in_flight = ledger.in_flight
        self.slots = ledger.slots
        self.speed = ledger.speed
        self._ledger = ledger

    def room(self, node: str, model: str) -> int | None:
        return self._ledger.room(node, model, item=True)


def _completed(timings: Timings | None, lease: Lease, now: float) -> Timings | None:
    """Measure what the reply does not tell of itself."""
    if timings is None or timings.generate_seconds or lease.decoding_since is None:
        return timings
    return replace(timings, generate_seconds=now - lease.decoding_since)


def _run(lease: Lease, timings: Timings | None, now: float) -> Run | None:
    """Place a reply's phases in time; None where its end does not tell."""
    if timings is None or timings.generate_seconds <= 0:
        return None
    life = now - lease.taken_at
    waited = None
    if timings.prompt_seconds > 0:
        busy = timings.prompt_seconds + timings.load_seconds + timings.generate_seconds
        waited = max(0.0, life - busy)
    return Run(now - timings.generate_seconds, waited, life)
