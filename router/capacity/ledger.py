"""Slots in use and learned speeds of every node; the one place that counts them.

A slot is a lease. It ends with an outcome, once, whatever else goes wrong.
Nothing in here waits, so under gevent each method is one atomic step; only `look` lets
others run, between two nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Protocol

from router.capacity.ceiling import CeilingSearch, ReplyRun, runs_alone
from router.capacity.changes import Changes
from router.capacity.concurrency import ConcurrencyLog
from router.capacity.drift import DriftDetector, Since
from router.capacity.external_load import (
    Evidence,
    Expiries,
    ExternalEstimate,
    ExternalLoad,
)
from router.capacity.learned import MOST_SHOWN, LearnedCapacity, ReplyEvidence
from router.capacity.load_time import COLD_LOAD_SECONDS, LoadTimes
from router.capacity.ramp import SlowStart
from router.capacity.recovered import RecoveredInFlight
from router.capacity.scaling import Looks
from router.capacity.slot_policy import SlotPolicy
from router.capacity.throughput import Try
from router.model import Node, Outcome, Timings
from router.runtime.turns import in_turns
from router.snapshot import PresentModel, Snapshot
from router.tracing.spans import RecordedSpan
from router.usage.account import UsageAccount

_SHARE = 0.1  # of a new reading of how long a slot is held
_ENOUGH_ENDS = 5
# Polls, passes and our own ends are seen at different times.
_OWN_END_SECONDS = 15.0

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

    @property
    def reads(self) -> int | None: ...

    @property
    def lines(self) -> int:
        """Return what came of a plain text: see `router.capacity.drift`."""

    def evict(self) -> bool: ...

    def abandon(self, why: str) -> bool: ...


class Lease:
    """One slot of one node, held by one request.

    decoding_since: when the first line came; for replies that do not tell their
                    own times (`/v1`)
    reply:          what runs on the slot, once it was sent
    tried:          nodes that this request is not to go to any more
    continued:      whether it goes on with an answer begun elsewhere: what is proven
                    and loaded before its first token is no wait
    alone:          whether nothing else of ours ran there when it was taken: a load
                    then waits for nobody
    account:        whose use it is, where a client asked for it
    job_of:         whose job it is, else; None: it is no job's
    payer:          whose limits a job's item counts against: who made the job
    span:           its attempt, where the request is traced
    streams:        whether a stream was asked for
    first_token_seconds: from the request's arrival to the first line of its stream;
                    None where this lease did not begin it
    resident:       whether the model was loaded when the slot was given, by the
                    node's last listing; None where there was none
    """

    __slots__ = (
        "_end",
        "_revoked",
        "_yielding",
        "account",
        "alone",
        "continued",
        "decoding_since",
        "first_token_seconds",
        "job_of",
        "model",
        "node",
        "payer",
        "reply",
        "resident",
        "span",
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
        self.account: UsageAccount | None = None
        self.job_of: str | None = None
        self.payer = ""
        self.span: RecordedSpan | None = None
        self.tried: frozenset[str] = frozenset()
        self.streams = False
        self.first_token_seconds: float | None = None
        self.resident: bool | None = None
        self.continued = False
        self.alone = False
        self._end: Callable[[Lease, Outcome, Timings | None], None] | None = end
        self._revoked: Callable[[], None] | None = None
        self._yielding = yielding
        self.yields = False

    def done(self, outcome: Outcome, timings: Timings | None = None) -> None:
        """Give the slot back; calls after the first do nothing."""
        end, self._end = self._end, None
        self._revoked = None
        try:
            if end:
                end(self, outcome, timings)
        finally:
            self.reply = None

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
    learns_ceilings: whether there is a node whose ceiling is not configured
    changes: the nodes whose counts or learned speeds changed
    """

    def __init__(
        self,
        default_slots: int,
        clock: Callable[[], float],
        policy: SlotPolicy | None = None,
    ) -> None:
        self.default_slots = default_slots
        self.pressed = False
        self.learns_ceilings = False
        self._by_model = False  # whether any model has a ceiling of its own
        self.changes = Changes()
        self.ceiling_search = CeilingSearch()
        self.learned = LearnedCapacity(
            policy, self.ceiling, self._forget, changed=self.changes.add
        )
        self.curves = self.learned.curves
        self.expiries = Expiries()
        self.slow_start = SlowStart()
        self.load_times = LoadTimes()
        self._clock = clock
        self._inventory: dict[str, Node] = {}
        self._configured: dict[str, int | None] = {}
        self._nodes: dict[str, ConcurrencyLog] = {}
        self._leases: dict[str, dict[Lease, None]] = {}
        self._limits = self.learned.limits
        self._alone: dict[Key, int] = {}  # models that Ollama runs one at a time
        self._present: dict[str, Mapping[str, PresentModel]] = {}  # as last looked at
        self._looked_at: Snapshot | None = None
        self._yielding: dict[str, int] = {}  # leases that a person may have, by node
        self._people_left: dict[str, float] = {}
        self._ends: dict[str, tuple[int, float]] = {}
        self._last_end: dict[Key, float] = {}
        self._latest: dict[str, str] = {}
        self._external = ExternalLoad()
        self._drifts = DriftDetector()
        self._try_again: dict[Key, Try] = {}  # as if they had never slowed down
        self._recovering = RecoveredInFlight()
        self._listeners: list[Callable[[Lease, Outcome, Timings | None], None]] = []

    def configure(self, nodes: Iterable[Node]) -> None:
        """Take over the ceilings of the inventory; leases under way go on."""
        nodes = tuple(nodes)
        known, self._inventory = self._inventory, {n.name: n for n in nodes}
        self._configured = {n.name: n.slots for n in nodes}
        self.learns_ceilings = None in self._configured.values()
        self._by_model = self.learns_ceilings or bool(self._alone)
        self.changes.add_all()
        self.learned.policy.configure(nodes)
        inventory = self._inventory
        changed = {
            name
            for name in {*known, *inventory}
            if known.get(name) != inventory.get(name)
        }
        self.learned.set_nodes(changed, self._clock())

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
            return self.ceiling_search.most.get(node, self.default_slots)
        return slots

    def ceiling(self, node: str, model: str) -> int:
        """Return how many requests of one model the node runs at once."""
        slots = self._configured.get(node, 0)
        if slots is None:
            slots = self.ceiling_search.ceiling(node, model, self.default_slots)
        return min(slots, self._alone.get((node, model), slots))

    def limit(self, node: str, model: str) -> int:
        """Return the slots that may be used for this model now."""
        return min(self._usable(node, model), self.ceiling(node, model))

    def _usable(self, node: str, model: str) -> int:
        """Return the slots that may be used now, whichever models run on the others."""
        slots = self._configured.get(node, 0)  # as `slots`, for each node of a decision
        if slots is None:
            slots = self.ceiling_search.most.get(node, self.default_slots)
        limits = self._limits.get((node, model)) if self._limits else None
        if limits is not None:
            slots = min(slots, limits.pressed if self.pressed else limits.idle)
        if self.slow_start.active:
            slots = self.slow_start.slots(node, slots, self._clock)
        if self._external.estimates and slots:
            return max(1, slots - self._external.streams(node, self._clock()))
        return slots

    def _crowded(self, node: str, model: str, *, item: bool) -> bool:
        """Say whether the node runs as many of this one model as it can at once."""
        running = self._running(node, model)
        if self._yielding and not item:
            running -= self._yielding.get(node, 0)
        return running >= self.ceiling(node, model)

    def _running(self, node: str, model: str) -> int:
        occupancy = self._nodes.get(node)
        return occupancy.models.get(model, 0) if occupancy else 0

    def in_flight(self, node: str) -> int:
        occupancy = self._nodes.get(node)
        return occupancy.count if occupancy else 0

    def free(self, node: str) -> int:
        return self.slots(node) - self.in_flight(node)

    def streams(self, node: str) -> int:
        """Return what runs there as far as is known or suspected."""
        now = self._clock()
        others = self._external.streams(node, now) + self._recovering.count(node, now)
        return self.in_flight(node) + others

    def room(self, node: str, model: str, *, item: bool = False) -> int | None:
        """Return how many streams run there; None where no slot is free.

        What yields to a person is not counted, but for another `item`.
        """
        occupancy = self._nodes.get(node)
        taken = occupancy.count if occupancy else 0
        if self._yielding and not item:
            taken -= self._yielding.get(node, 0)
        if self._recovering.counts:
            taken += self._recovering.count(node, self._clock())
        if taken >= self._usable(node, model):
            return None
        if self._by_model and taken and self._crowded(node, model, item=item):
            return None
        if self._external.estimates:
            taken += self._external.streams(node, self._clock())
        return taken

    def rescue_room(self, node: str, model: str) -> int | None:
        """The same for an answer that broke off: it may use every slot there is."""
        taken = (
            self.in_flight(node) - self._yielding.get(node, 0) + self.recovered(node)
        )
        if taken >= self.slots(node) or self._crowded(node, model, item=False):
            return None
        return taken + self.external_streams(node)

    def running(self, node: str) -> int:
        """Return what the router itself has running there, or may have left there."""
        return self.in_flight(node) + self.recovered(node)

    def usable(self, node: str) -> int:
        """Return the slots that may be used now, for the model it was last asked."""
        return self.limit(node, self._latest.get(node, ""))

    def quiet_seconds(self, node: str) -> float:
        """Return how long ago the last lease ended there that yields to nobody."""
        return self._clock() - self._people_left.get(node, -inf)

    def nodes(self) -> tuple[str, ...]:
        """Return the nodes that had a lease."""
        return tuple(self._leases)

    def leases(self, node: str) -> tuple[Lease, ...]:
        """Return the node's leases, oldest first."""
        return tuple(self._leases.get(node, ()))

    # What was learned

    def speed(self, node: str, model: str, streams: int = 1) -> float | None:
        curve = self.curves.get((node, model))
        speed = curve.speed(streams) if curve else None
        if curve and self._try_again and (node, model) in self._try_again:
            speed = curve.usual_speed(streams)
        if speed is not None and self.slow_start.active:
            return speed * self.slow_start.factor(node)
        return speed

    def tried_by(self, node: str, model: str) -> Try | None:
        """Say who may see whether a node has recovered: None: it did not slow down."""
        return self._try_again.get((node, model)) if self._try_again else None

    def speeds(self) -> Iterator[tuple[Key, float]]:
        for key, curve in self.learned.newest(MOST_SHOWN):
            if speed := curve.speed(1):
                yield key, speed

    def totals(self) -> Iterator[tuple[Key, dict[int, float]]]:
        """Yield the learned totals in tokens/s by number of streams."""
        for key, curve in self.learned.newest(MOST_SHOWN):
            yield key, curve.totals()

    def load_seconds(self, node: str, model: str, size_bytes: int) -> float:
        """Return how long the node takes to load a model, as far as it has shown."""
        return self.load_times.seconds(node, model, size_bytes)

    def slot_seconds(self, node: str) -> float | None:
        """Return how long a slot of the node is held; None while too few ended."""
        ends, seconds = self._ends.get(node, (0, 0.0))
        return seconds if ends >= _ENOUGH_ENDS else None

    def external(self, node: str) -> ExternalEstimate | None:
        return self._external.of(node, self._clock())

    def external_streams(self, node: str) -> int:
        return self._external.streams(node, self._clock())

    def ramp(self, node: str) -> float:
        """Return the share of its slots that a node which came back may use."""
        return self.slow_start.ramp(node, self._clock())

    def recovered(self, node: str) -> int:
        return self._recovering.count(node, self._clock())

    @property
    def unsteady(self) -> set[str]:
        """Name the nodes whose usable slots change by time alone; mostly none."""
        if not (self.slow_start.active or self._external.estimates):
            return set(self._recovering.counts)
        return {
            *self.slow_start.nodes,
            *self._external.estimates,
            *self._recovering.counts,
        }

    # Changes

    def press(self, *, pressed: bool) -> None:
        """Take note whether requests wait for a slot."""
        if pressed is not self.pressed:
            self.pressed = pressed
            for node in self.learned.capped:
                self.changes.add(node)

    def take(self, node: str, model: str) -> Lease:
        """Reserve a slot; the caller has seen that one is free."""
        now = self._clock()
        occupancy = self._nodes.get(node)
        if occupancy is None:
            occupancy = self._nodes[node] = ConcurrencyLog()
        occupancy.change(1, now, model)
        self._latest[node] = model
        lease = Lease(node, model, now, self._ended, self._yields)
        lease.alone = occupancy.count == 1
        if occupancy.models[model] == 1:
            self.learned.taken((node, model), now)
        if self._try_again:
            self._try_again.pop((node, model), None)
        self._leases.setdefault(node, {})[lease] = None
        self.changes.add(node)
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

        Also while others wait: this one would wait inside Ollama instead. Only where
        the model is loaded, so that a wait can be told from a load.
        """
        if self._configured.get(node, 1) is not None or (node, model) in self._alone:
            return False
        now = self._clock()
        self.ceiling_search.look(node, now)
        running, all_of_them = self._running(node, model), self.in_flight(node)
        return (
            running == self.ceiling(node, model)
            and all_of_them == self.streams(node)
            and (running == all_of_them or all_of_them < self.slots(node))
            and self._usable(node, model) == self.slots(node)
            and self._answered(node, model)
            and self.ceiling_search.may_try(node, model, running, now)
        )

    def _answered(self, node: str, model: str) -> bool:
        leases = self._leases.get(node, ())
        return (node, model) in self.curves or any(
            each.model == model and each.decoding_since is not None for each in leases
        )

    def take_one_more(self, node: str, model: str) -> Lease:
        """Reserve beyond the known ceiling, as a trial."""
        others = [each for each in self.leases(node) if each.model == model]
        lease = self.take(node, model)
        self.ceiling_search.begin(lease, others)
        return lease

    def recall(
        self, counts: dict[str, int], expiries: dict[str, dict[str, str]], until: float
    ) -> None:
        """Take over what the last router had in flight; see `recovered`."""
        self._recovering = RecoveredInFlight(counts, until)
        self.expiries.seen = expiries

    def share(self, others: RecoveredInFlight) -> None:
        """Count what another router has in flight; see `router.capacity.handed`."""
        self._recovering = others
        self.changes.add_all()

    def look(self, snapshot: Snapshot) -> None:
        """Take what the polls saw: who fell idle, and whether by our doing."""
        now = self._clock()
        self._looked_at = snapshot
        for node, view in in_turns(snapshot.nodes.items()):
            if self._looked_at is not snapshot:
                return  # a newer one was taken in meanwhile
            if view.present is not None and view.present is not self._present.get(node):
                self._look_at_models(node, view.present)
            if view.resident is None:
                continue
            before = self.expiries.seen_at.get(node, now)
            idle = self.expiries.moved(node, view.resident, now)
            explained = self._recovering.count(node, now) > 0
            self._recovering.looked(node, view.resident, idle)
            for model in idle:
                if not (explained or self._ours((node, model), before)):
                    self._external.suspect(node, Evidence.EXPIRY, now)

    def look_at_streams(self) -> None:
        """Compare what runs with what is known of its node, every `LOOK_SECONDS`."""
        now = self._clock()
        self._drifts.begin(now)
        for node, leases in in_turns(tuple(self._leases.items())):
            if leases:
                log = self._nodes[node]
                for drift in self._drifts.look(node, leases, log, self.curves, now):
                    self.learned.drift(drift.key, drift.share, now)
                    if drift.share < 1:  # by two looks, as by two slow replies
                        self._external.suspect(node, Evidence.SLOW, now)
                    self.changes.add(node)
        for key in tuple(self.learned.slowed):
            self._look_at_slowed(key, now)

    def _look_at_slowed(self, key: Key, now: float) -> None:
        """Let an idle node that slowed down be tried again from time to time.

        For one request it is weighed as what it was before.
        """
        node, curve = key[0], self.curves.get(key)
        if curve is None or curve.slowed_at is None:
            self.learned.slowed.pop(key)
            self._try_again.pop(key, None)
            return
        by = None if self.streams(node) else curve.try_again(now)
        if by is not None and self._try_again.get(key) is not by:
            self._try_again[key] = by
            self.changes.add(node)

    def _look_at_models(self, node: str, present: Mapping[str, PresentModel]) -> None:
        self._present[node] = present
        for key in [each for each in self._alone if each[0] == node]:
            del self._alone[key]
        for name, model in present.items():
            if runs_alone(model.listing):
                self._alone[node, name] = 1
        self._by_model = self.learns_ceilings or bool(self._alone)
        self.changes.add(node)

    def _ours(self, key: Key, since: float) -> bool:
        ended = self._last_end.get(key)
        if ended is not None and since - ended <= _OWN_END_SECONDS:
            return True
        return any(lease.model == key[1] for lease in self._leases.get(key[0], ()))

    def _ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        now = self._clock()
        node = lease.node
        occupancy = self._nodes[node]
        reported = _completed(timings, lease, now)
        tokens = reported.generated_tokens if reported else 0
        since = self._drifts.ended(lease, tokens, complete=outcome is Outcome.END)
        shown = self._shown(lease, reported, since, now) if reported else None
        occupancy.change(-1, now, lease.model)
        if lease.yields:
            self._yields(node, -1)
        else:
            self._people_left[node] = now
        del self._leases[node][lease]
        began, read = _reading(lease, reported, now)
        occupancy.read(lease, began, read, now)
        self._last_end[node, lease.model] = now
        self._try_ended(lease, reported, now)
        if outcome in {Outcome.END, Outcome.CLIENT_GONE}:
            self._count_end(node, now - lease.taken_at)
        if reported and shown:
            self._learn(lease, reported, shown, now)
        self.changes.add(node)
        for callback in self._listeners:
            callback(lease, outcome, timings)

    def _forget(self, key: Key) -> None:
        self._last_end.pop(key, None)
        self._drifts.forget(key)
        self.ceiling_search.forget(key)

    def _yields(self, node: str, by: int = 1) -> None:
        count = self._yielding.pop(node, 0) + by
        if count:
            self._yielding[node] = count
        self.changes.add(node)

    def _try_ended(self, lease: Lease, timings: Timings | None, now: float) -> None:
        node = lease.node
        run = None if lease.continued else _run(lease, timings, now)
        # While a trial runs, its neighbours may wait because of it.
        if (
            run
            and run.waited is not None
            and not self.ceiling_search.on_trial(node, lease.taken_at)
        ):
            known = self._configured.get(node, 1) is not None
            handed = not known and self.ceiling_search.contradict(
                lease, run, self.default_slots, now
            )
            if run.delayed and not handed:
                self._external.suspect(node, Evidence.WAITED, now)
        if self._configured.get(node, 1) is None:
            at = None
            if timings and timings.total_seconds > 0 and not lease.continued:
                at = min(now, lease.taken_at + timings.total_seconds)
            self.ceiling_search.ended(lease, run, now, at)

    def _count_end(self, node: str, seconds: float) -> None:
        ends, known = self._ends.get(node, (0, seconds))
        share = max(_SHARE, 1 / (ends + 1))
        self._ends[node] = (ends + 1, known + share * (seconds - known))

    def _shown(
        self, lease: Lease, timings: Timings, since: Since | None, now: float
    ) -> ReplyEvidence | None:
        """Work out what a reply shows of its node, before its slot is free.

        What came before a drift was noticed in it, `since` when, shows nothing.
        """
        if timings.tokens_per_second is None:
            return None
        tokens, seconds = timings.generated_tokens, timings.generate_seconds
        if since is not None:
            tokens, seconds = int(tokens - since.tokens), now - since.at
            if tokens < 1 or seconds <= 0:
                return None
        # The node's clock may run a little faster than ours.
        spent = min(seconds, now - lease.taken_at)
        occupancy = self._nodes[lease.node]
        steady = occupancy.steady(spent, now)
        if steady is None:
            return None
        others = (each for each in self._leases[lease.node] if each is not lease)
        return ReplyEvidence(
            *steady,
            tokens,
            seconds,
            occupancy.reading(others, now - spent, now),
            in_doubt=self._external.streams(lease.node, now) > 0,
        )

    def _learn(
        self, lease: Lease, timings: Timings, shown: ReplyEvidence, now: float
    ) -> None:
        node, key = lease.node, (lease.node, lease.model)
        looks = Looks.NONE
        if self._configured.get(node, 0) is not None or self.ceiling_search.settled(
            *key
        ):
            looks = Looks.DOWN if self.pressed else Looks.BOTH
        ratio = self.learned.learn(key, shown, now, looks)
        if timings.load_seconds >= COLD_LOAD_SECONDS:
            if lease.alone and not lease.continued:
                listed = self._present.get(node, {}).get(lease.model)
                size = listed.size_bytes if listed else 0
                self.load_times.learn(*key, size, timings.load_seconds)
            return  # what loads slows what runs
        # A `/v1` reply's time is its client's as well: a slow reader proves nothing.
        # Nor do streams of another model, whatever that one takes.
        mixed = self._nodes[node].mixed(now - shown.seconds)
        if ratio is not None and timings.prompt_seconds and shown.long and not mixed:
            self._external.replied(node, ratio, now)


class ItemsCounted:
    """A `router.snapshot.LoadView` for who takes nothing back from jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self.in_flight = ledger.in_flight
        self.slots = ledger.slots
        self.speed = ledger.speed
        self._ledger = ledger

    def room(self, node: str, model: str) -> int | None:
        return self._ledger.room(node, model, item=True)


class Rescue(ItemsCounted):
    """The same for an answer that broke off: it may use every slot there is.

    Neither what pays nor what is suspected counts: its client waits in mid-sentence.
    """

    def room(self, node: str, model: str) -> int | None:
        return self._ledger.rescue_room(node, model)


def _completed(timings: Timings | None, lease: Lease, now: float) -> Timings | None:
    """Measure what the reply does not tell of itself."""
    if timings is None or timings.generate_seconds or lease.decoding_since is None:
        return timings
    return timings._replace(generate_seconds=now - lease.decoding_since)


def _streamed(lease: Lease) -> float | None:
    """Return when the first line came; None where it is not known to be the first."""
    since = lease.decoding_since
    return since if since is not None and since > lease.taken_at else None


def _reading(
    lease: Lease, timings: Timings | None, now: float
) -> tuple[float | None, float]:
    """Return when a reply began to come, and for how long its prompt was read."""
    began = _streamed(lease)
    if timings is None or timings.prompt_seconds <= 0:
        return began, 0.0
    if began is None:
        began = max(lease.taken_at, now - timings.generate_seconds)
    return began, timings.prompt_seconds


def _run(lease: Lease, timings: Timings | None, now: float) -> ReplyRun | None:
    """Place a reply's phases in time; None where its end does not tell."""
    began = _streamed(lease)
    if timings is None or timings.generate_seconds <= 0:
        return None
    life = now - lease.taken_at
    if timings.prompt_seconds <= 0:
        return ReplyRun(began, None, life) if began is not None else None
    ready = timings.prompt_seconds + timings.load_seconds
    busy = ready + timings.generate_seconds
    # A client that reads slowly makes a life long, and an upload both times.
    waits = [life - busy]
    if began is not None:
        waits.append(began - lease.taken_at - ready)
    if timings.total_seconds > 0:
        waits.append(timings.total_seconds - busy)
    first = now - timings.generate_seconds if began is None else began
    return ReplyRun(first - timings.prompt_seconds, max(0.0, min(waits)), life)
