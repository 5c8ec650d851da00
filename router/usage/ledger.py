"""Accounts for the usage of every request, from its acceptance to its end.

It receives the ends of leases and meter readings, and holds rows until they are taken
for writing, up to a limit. Nothing in here waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from router.model import Outcome, Timings
from router.usage.account import JOBS, ROUTER, UsageAccount, UsageRow
from router.usage.energy import CardMeter, MeterReading, shares, split
from router.usage.top import TopPrincipals, UsageTotals

_MOST_PENDING = 20_000
# Longest wait for a meter: by then a scrape and a record should have passed.
_METER_SECONDS = 180.0


class Charge(Protocol):
    def __call__(self, payer: str, /, **used: float) -> None: ...


class MeteredLease(Protocol):
    """What is read of a lease (`router.capacity.ledger.Lease`)."""

    account: UsageAccount | None

    @property
    def node(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def taken_at(self) -> float: ...
    @property
    def decoding_since(self) -> float | None: ...
    @property
    def job_of(self) -> str | None: ...
    @property
    def payer(self) -> str: ...


@dataclass(slots=True)
class NodeEnergy:
    """Joules of a node's GPUs: all that the meters counted, and the idle part."""

    metered: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """What to write: rows to replace by their id, and energy to add by node."""

    rows: tuple[UsageRow, ...]
    energy: Mapping[str, NodeEnergy]
    accounts: tuple[UsageAccount, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows or self.energy)


class _Run(NamedTuple):
    """An attempt that is over."""

    began: float
    ended: float
    account: UsageAccount


class UsageLedger:
    """Opens, updates and closes accounts, and hands out what to write.

    leases:  returns the leases that run on a node
    dropped: rows for which there was no room
    closed:  called with each account that is over
    charge:  called with the payer and the tokens, job_items, joules and node_seconds
             to count against limits; a request reports its own tokens
    """

    def __init__(
        self,
        leases: Callable[[str], Iterable[MeteredLease]],
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        top: int = 20,
        most_pending: int = _MOST_PENDING,
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._wall_clock = wall_clock
        # No two routers give a row the same id, also where the last one's file cannot
        # be read now.
        self._next = self.first_id = int(wall_clock() * 1e6)
        self._most = most_pending
        self._dirty: dict[int, UsageAccount] = {}
        self._energy: dict[str, NodeEnergy] = {}
        self._runs: dict[str, list[_Run]] = defaultdict(list)
        self._meters: dict[str, dict[str, CardMeter]] = {}
        self._counted_to = clock()
        self.nodes: dict[str, NodeEnergy] = {}  # all since the start
        self.top = TopPrincipals(top)
        self.dropped = 0
        self.charge: Charge = _nobody_pays
        self.closed: Callable[[UsageAccount], None] | None = None

    def __len__(self) -> int:
        return len(self._dirty)

    # Requests

    def open(
        self,
        principal: str,
        name: str,
        *,
        since: float,
        model: str,
        request_id: str = "",
        path: str = "",
    ) -> UsageAccount:
        """Open a request's account. `since`: its arrival in monotonic seconds."""
        at = self._wall_clock() - (self._clock() - since)
        made = UsageAccount(
            self._next, at, since, principal, name, request_id, path, model
        )
        made.payer = principal
        self._next += 1
        self._mark(made)
        return made

    def close(self, account: UsageAccount, status: int, outcome: str) -> None:
        """Close an account; its energy may still be added."""
        account.end(status, outcome, self._clock())
        used = UsageTotals(1.0, account.tokens_in, account.tokens_out)
        self.top.add(_label(account), used)
        if self.closed is not None:
            self.closed(account)
        self._mark(account)

    def lease_ended(
        self, lease: MeteredLease, outcome: Outcome, timings: Timings | None
    ) -> None:
        """Add an attempt that has ended (`router.capacity.ledger.Ledger.listen`)."""
        now = self._clock()
        account = self._account(lease)
        account.ran(lease.node, lease.taken_at, lease.decoding_since, timings, now)
        self._runs[lease.node].append(_Run(lease.taken_at, now, account))
        if not account.asked:
            self._charge_item(account, outcome, timings)
            self.close(account, 0, outcome.value)

    def _charge_item(
        self, account: UsageAccount, outcome: Outcome, timings: Timings | None
    ) -> None:
        tokens = timings.prompt_tokens + timings.generated_tokens if timings else 0
        answered = outcome is Outcome.END
        self.charge(account.payer, tokens=float(tokens), job_items=float(answered))

    def _account(self, lease: MeteredLease) -> UsageAccount:
        """Return whose lease it is: a client's, a job's, or the router's own."""
        if lease.account is None:
            who = ROUTER
            if lease.job_of is not None:
                who = f"{JOBS}:{lease.job_of}" if lease.job_of else JOBS
            made = self.open(who, who, since=lease.taken_at, model=lease.model)
            made.asked, made.node, made.payer = False, lease.node, lease.payer
            lease.account = made
        return lease.account

    def _mark(self, account: UsageAccount) -> None:
        if account.id not in self._dirty and len(self._dirty) >= self._most:
            self.dropped += 1
            return
        self._dirty[account.id] = account

    # Energy and node time

    def metered(self, readings: Sequence[MeterReading], nodes: Iterable[str]) -> None:
        """Add meter readings, timed in monotonic seconds; forget settled attempts."""
        now = self._clock()
        for reading in readings:
            self._read(reading)
        for node in {*nodes, *self._runs}:
            self._count_time(node, now)
        self._counted_to = now
        for node in list(self._runs):
            self._settle(node, now)

    def _read(self, reading: MeterReading) -> None:
        cards = self._meters.setdefault(reading.node, {})
        meter = cards.get(reading.card)
        if meter is None:
            meter = cards[reading.card] = CardMeter()
        taken = meter.read(reading.at, reading.joules)
        if taken is None:
            return
        runs = self._running(reading.node, taken.until)
        spans = [(run.began, run.ended) for run in runs]
        parts = split(taken, spans, meter.idle_watts)
        for run, joules in zip(runs, parts.streams, strict=True):
            if joules:
                run.account.add_energy(joules)
                self.charge(run.account.payer, joules=joules)
                self.top.add(_label(run.account), UsageTotals(joules=joules))
                self._mark(run.account)
        for energy in (self._energy, self.nodes):
            node = energy.setdefault(reading.node, NodeEnergy())
            node.metered += taken.joules
            node.idle += parts.idle
        busy = any(b < taken.until and e > taken.since for b, e in spans)
        meter.learn(taken, busy=busy)

    def _running(self, node: str, until: float) -> list[_Run]:
        """Return what ran there, and what runs: as if it ended after `until`."""
        running = [
            _Run(lease.taken_at, inf, self._account(lease))
            for lease in self._leases(node)
            if lease.taken_at < until
        ]
        return [*self._runs.get(node, ()), *running]

    def _count_time(self, node: str, now: float) -> None:
        runs = self._running(node, now)
        spans = [(run.began, run.ended) for run in runs]
        used: dict[tuple[str, str], float] = defaultdict(float)
        for run, part in zip(runs, shares(spans, self._counted_to, now), strict=True):
            if part:
                run.account.node_seconds += part
                used[run.account.payer, _label(run.account)] += part
                self._mark(run.account)
        for (payer, label), seconds in used.items():
            self.charge(payer, node_seconds=seconds)
            self.top.add(label, UsageTotals(node_seconds=seconds))

    def _settle(self, node: str, now: float) -> None:
        """Forget attempts that ended before the last reading of every meter."""
        late = now - _METER_SECONDS
        read = [m.at for m in self._meters.get(node, {}).values() if m.at > late]
        past = min(read, default=now)
        kept = [run for run in self._runs[node] if run.ended > max(past, late)]
        if kept:
            self._runs[node] = kept
        else:
            del self._runs[node]

    # Writing

    def take(self, most: int) -> UsageBatch:
        """Return what to write next, at most so many rows."""
        ids = list(self._dirty)[:most]
        accounts = tuple(self._dirty.pop(each) for each in ids)
        energy, self._energy = self._energy, {}
        return UsageBatch(tuple(each.row for each in accounts), energy, accounts)

    def put_back(self, batch: UsageBatch) -> None:
        """Take back what could not be written, without replacing what is newer."""
        for account in batch.accounts:
            self._mark(account)
        for name, lost in batch.energy.items():
            node = self._energy.setdefault(name, NodeEnergy())
            node.metered += lost.metered
            node.idle += lost.idle


def _nobody_pays(_payer: str, /, **_used: float) -> None:
    """Stand for limits where there are none."""


def _label(account: UsageAccount) -> str:
    """Return a principal's name for people; its id where it has none."""
    return account.principal if account.name == "anonymous" else account.name
