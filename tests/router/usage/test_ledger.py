"""Every request has a row, and all joules that were counted have an owner."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from router.capacity.ledger import Lease, Ledger
from router.errors import StateError
from router.model import Node, Outcome, Timings
from router.usage.account import COLUMNS
from router.usage.energy import MeterReading
from router.usage.ledger import UsageLedger
from router.usage.report import Prices, UsageQuery, csv_lines, shown, statement
from router.usage.store import UsageStore
from router.usage.top import OTHER, TopPrincipals, UsageTotals
from router.usage.writer import UsageWriter

DAY = 86_400.0
NOON = 1_700_000_000.0 // DAY * DAY + DAY / 2


@dataclass
class Rig:
    """Two nodes with four slots each, a clock, and a ledger that hears of them."""

    now: float = 0.0
    most: int = 1000

    def __post_init__(self) -> None:
        self.slots = Ledger(4, lambda: self.now)
        self.slots.configure(Node(name, f"http://{name}:1", 4) for name in "ab")
        self.usage = UsageLedger(
            self.slots.leases,
            clock=lambda: self.now,
            wall_clock=lambda: NOON + self.now,
            most_pending=self.most,
        )
        self.slots.listen(self.usage.lease_ended)

    def begin(self, principal="key:1", node="a", name="anonymous"):
        account = self.usage.open(principal, name, since=self.now, model="m:1")
        lease = self.slots.take(node, "m:1")
        lease.account = account
        return lease

    def end(self, lease, tokens=10, outcome=Outcome.END):
        lease.done(outcome, Timings(prompt_tokens=5, generated_tokens=tokens))
        self.usage.close(lease.account, 200, outcome.value)

    def meter(self, joules, node="a", at=None, card="GPU-0"):
        at = self.now if at is None else at
        self.usage.metered([MeterReading(node, card, at, joules)], self.slots.nodes())

    def rows(self):
        return [
            dict(zip(COLUMNS, row, strict=True)) for row in self.usage.take(99).rows
        ]


def test_row_of_a_request():
    """Opened when it comes, and again when it is over, with times and tokens."""
    rig = Rig()
    lease = rig.begin()
    (row,) = rig.rows()
    assert ("key:1", "m:1", "running", None) == (
        row["principal"],
        row["model"],
        row["outcome"],
        row["joules"],
    )
    rig.now, lease.decoding_since = 5.0, 2.0
    lease.account.queued(0.5)
    rig.end(lease)
    (again,) = rig.rows()
    assert again["id"] == row["id"]
    assert ("a", 200, "end", 1, 5, 10) == tuple(
        again[name]
        for name in ("node", "status", "outcome", "attempts", "tokens_in", "tokens_out")
    )
    assert (0.5, 2.0, 3.0, 5.0) == tuple(
        again[f"{name}seconds"] for name in ("queue_", "prefill_", "decode_", "")
    )
    assert again["at"] == NOON


def test_attempts_add_up():
    """A stream that went on elsewhere is one row, with the work of both nodes."""
    rig = Rig()
    first = rig.begin()
    rig.now = 1.0
    first.done(Outcome.EOF, Timings(generated_tokens=3))
    second = rig.slots.take("b", "m:1")
    second.account = first.account
    rig.now = 3.0
    rig.end(second, tokens=7)
    (row,) = rig.rows()
    assert ("b", 2, 10) == (row["node"], row["attempts"], row["tokens_out"])


def test_other_work_has_rows():
    """Jobs' items and the router's own checks are told apart from clients' requests."""
    rig = Rig()
    leases = [rig.slots.take("a", "m:1") for _ in range(3)]
    leases[0].job_of, leases[1].job_of = "", "ann"
    rig.now = 2.0
    for lease in leases:
        lease.done(Outcome.END, Timings())
    rows = rig.rows()
    assert ["jobs", "jobs:ann", "router"] == [row["principal"] for row in rows]
    assert {("end", 2.0)} == {(row["outcome"], row["seconds"]) for row in rows}


def test_known_truth():
    """Two clients on a card of 100 W idle: each joule where the physics put it."""
    rig = Rig()
    rig.meter(0.0)
    joules = 0.0
    for _ in range(3):  # idle: 100 W
        rig.now += 5
        joules += 500
        rig.meter(joules)
    one, two = rig.begin("key:1"), rig.begin("key:2")
    rig.now += 5
    joules += 5 * 300  # 200 W beyond idle, shared by two
    rig.meter(joules)
    rig.end(one)
    rig.now += 5
    joules += 5 * 250  # 150 W, all of the second's
    rig.meter(joules)
    rig.end(two)
    used = {row["principal"]: row["joules"] for row in rig.rows()}
    assert used == pytest.approx({"key:1": 500.0, "key:2": 500.0 + 750.0})
    node = rig.usage.nodes["a"]
    assert (joules, 2500.0) == pytest.approx((node.metered, node.idle))


@pytest.mark.parametrize("seed", range(5))
def test_all_joules_have_an_owner(seed):
    """Random streams, late readings: rows and idle together are the meters' counts."""
    rng, rig = random.Random(seed), Rig()
    counters = {("a", "GPU-0"): 1e6, ("a", "GPU-1"): 5e5, ("b", "GPU-0"): 7.0}
    start = dict(counters)
    running: list[Lease] = []
    seen: dict[tuple[str, str], float] = {}
    rows: dict[str, dict[str, Any]] = {}
    for (node, card), joules in counters.items():
        rig.meter(joules, node, card=card)
    for _ in range(400):
        rig.now += rng.expovariate(2.0)
        act = rng.random()
        if act < 0.4 and len(running) < 8:
            running.append(rig.begin(f"key:{rng.randrange(3)}", rng.choice("ab")))
        elif act < 0.7 and running:
            rig.end(running.pop(rng.randrange(len(running))))
        else:
            key = rng.choice(list(counters))
            at = rig.now - rng.uniform(0.0, 0.3)
            if at > seen.get(key, 0.0):
                counters[key] += (at - seen.get(key, 0.0)) * rng.uniform(50, 400)
                seen[key] = at
                rig.meter(counters[key], key[0], at, key[1])
        rows |= {row["id"]: row for row in rig.rows()}
    while len(rig.usage):
        rows |= {row["id"]: row for row in rig.rows()}
    nodes = rig.usage.nodes.values()
    metered = sum(counters.values()) - sum(start.values())
    assert sum(node.metered for node in nodes) == pytest.approx(metered)
    used = sum(float(row["joules"] or 0) for row in rows.values())
    assert used + sum(node.idle for node in nodes) == pytest.approx(metered)
    assert used > 0.2 * metered


def test_node_time():
    """Time of a node is shared by its streams, and adds up to what it was busy."""
    rig = Rig()
    one = rig.begin()
    rig.now = 4.0
    two = rig.begin()
    rig.now = 10.0
    rig.end(one)
    rig.end(two)
    rig.usage.metered((), rig.slots.nodes())
    assert [7.0, 3.0] == [row["node_seconds"] for row in rig.rows()]


def test_settled_runs_are_forgotten():
    """What every meter has gone past, or what no meter reads, is not kept."""
    rig = Rig()
    rig.meter(0.0)
    for _ in range(50):
        lease = rig.begin()
        rig.now += 1
        rig.end(lease)
        rig.meter(rig.now * 100)
    assert not rig.usage._runs
    lease = rig.begin(node="b")
    rig.now += 1
    rig.end(lease)
    rig.usage.metered((), rig.slots.nodes())
    assert not rig.usage._runs


def test_no_room():
    """Beyond the bound rows are dropped, and counted."""
    rig = Rig(most=3)
    for _ in range(5):
        rig.usage.open("key:1", "k", since=0.0, model="m:1")
    assert (3, 2) == (len(rig.usage), rig.usage.dropped)


def test_written_and_asked(tmp_path):
    """Rows go to the file in batches; what is asked is summed with prices."""
    rig = Rig()
    writer = UsageWriter(rig.usage, lambda: UsageStore(tmp_path), lambda: NOON)
    rig.meter(0.0)
    for principal, name in (("key:1", "ann"), ("key:2", "bob"), ("key:1", "ann")):
        lease = rig.begin(principal, name=name)
        rig.now += 10
        rig.end(lease)
        rig.meter(rig.now * 360)
    prices = Prices(per_kwh=1000.0, per_node_hour=36.0)
    report = writer.report(UsageQuery(NOON - DAY, NOON + DAY), prices)
    assert [("key:1", "ann", 2, 20), ("key:2", "bob", 1, 10)] == [
        (u["principal"], u["name"], u["requests"], u["tokens_out"])
        for u in report["usage"]
    ]
    total = report["total"]
    assert total["metered_joules"] == pytest.approx(30 * 360)
    assert total["joules"] + total["idle_joules"] == pytest.approx(30 * 360)
    first = report["usage"][0]
    assert first["node_seconds"] == pytest.approx(20.0)
    assert first["cost"] == pytest.approx(first["joules"] / 3.6e6 * 1000 + 0.2)
    lines = list(csv_lines(report, ("principal", "name")))
    assert ("principal", "name", "requests") == tuple(lines[0][:3])
    assert ["key:2", "bob", 1] == lines[2][:3]
    narrow = UsageQuery(NOON, NOON + 5, ("day", "model"), principal="key:1")
    assert [1] == [each["requests"] for each in writer.report(narrow, prices)["usage"]]
    assert writer.written >= 3
    writer.close()


def test_preempted_items_have_not_failed(tmp_path):
    """A copy that came second and an item that made room are no failures."""
    rig = Rig()
    writer = UsageWriter(rig.usage, lambda: UsageStore(tmp_path), lambda: NOON)
    for outcome in (Outcome.END, Outcome.REVOKED, Outcome.STALLED):
        item = rig.slots.take("a", "m:1")
        item.job_of = "ann"
        item.done(outcome, Timings())
    (row,) = writer.report(UsageQuery(NOON - DAY, NOON + DAY), Prices())["usage"]
    assert (3, 1) == (row["requests"], row["failed"])
    writer.close()


def test_lost_requests_are_marked(tmp_path):
    """What a router that died had under way says so, also beside another's rows."""
    rig = Rig()
    rig.begin()
    first = UsageWriter(rig.usage, lambda: UsageStore(tmp_path), lambda: NOON)
    first.close()
    again = Rig(now=100.0)
    again.begin("key:9")
    second = UsageWriter(again.usage, lambda: UsageStore(tmp_path), lambda: NOON)
    second.flush()
    rows = second.store()._file.read("SELECT principal, outcome FROM requests")
    assert [("key:1", "lost"), ("key:9", "running")] == rows
    second.close()


def test_disk_that_fails(tmp_path):
    """Rows wait for a disk that takes nothing, and are written when it does again."""
    rig, full = Rig(), True

    def opened():
        if full:
            raise StateError("usage.sqlite: no space left")
        return UsageStore(tmp_path)

    writer = UsageWriter(rig.usage, opened, lambda: NOON)
    rig.end(rig.begin())
    rig.meter(0.0)
    rig.now = 5.0
    rig.meter(500.0)
    writer.flush()
    assert (1, 0) == (len(rig.usage), writer.written)
    assert "no space" in (writer.fault or "")
    full = False
    writer.flush()
    assert (0, 1, None) == (len(rig.usage), writer.written, writer.fault)
    query = UsageQuery(NOON - DAY, NOON + DAY)
    assert [("a", 500.0, 500.0)] == writer.store().node_energy(query)
    writer.forget(0.0)
    assert len(writer.store().totals(query)) == 1
    writer._clock = lambda: NOON + 2 * DAY
    writer.forget(DAY)
    assert writer.store().totals(query) == []
    writer.close()


def test_damaged_file(tmp_path):
    """A file that is no database is put aside, and another begun."""
    (tmp_path / "usage.sqlite").write_text("no database" * 200)
    store = UsageStore(tmp_path)
    assert store.begin(1) == 0
    assert (tmp_path / "usage.sqlite.damaged").exists()
    store.close()


def test_question_without_injection():
    """What a client gives is a value, never a part of the statement."""
    text, values = statement(UsageQuery(0.0, 1.0, ("node",), node="x'; DROP"))
    assert "DROP" not in text
    assert values[-1] == "x'; DROP"
    assert shown(UsageQuery(0.0, 1.0), [], [], Prices())["usage"] == []


def test_spreadsheets_run_nothing():
    """A name that begins like a formula is text in CSV."""
    names = ("principal", "name")
    row = ["key:1", "=cmd()", 1, 0, 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0]
    report = shown(UsageQuery(0.0, 1.0), [row], [], Prices())
    assert "'=cmd()" == list(csv_lines(report, names))[1][1]


def test_top_principals():
    """The largest have names, the rest is `other`, and no counter falls."""
    top = TopPrincipals(2)
    last: dict[str, float] = {}
    rng = random.Random(1)
    for number in range(2000):
        who = f"p{min(rng.randrange(20), rng.randrange(20))}"
        if number > 1000:
            who = rng.choice(["late", who])
        top.add(who, UsageTotals(1.0, node_seconds=1.0))
        shown_now = {name: each.requests for name, each in top}
        assert len(shown_now) <= 3
        for name, requests in shown_now.items():
            assert requests >= last.get(name, 0.0)
        last |= shown_now
    assert "late" in dict(top)
    assert OTHER in dict(top)


def test_top_forgets():
    """Principals that come once take no room for good."""
    top = TopPrincipals(2)
    for number in range(10_000):
        top.add(f"client:{number}", UsageTotals(1.0))
    assert len(top._known) <= 4097


def test_what_counts_against_limits():
    """A request's energy and time are its principal's; an item's are its maker's."""
    rig, told = Rig(), []

    def charge(payer, /, **used):
        told.append((payer, used))

    rig.usage.charge = charge
    lease = rig.begin()
    item = rig.slots.take("b", "m:1")
    item.job_of, item.payer = "team-a", "key:2"
    rig.now = 2.0
    rig.meter(0.0, at=0.0)
    rig.meter(500.0)
    rig.end(lease)
    item.done(Outcome.END, Timings(prompt_tokens=3, generated_tokens=4))
    assert ("key:1", {"joules": 500.0}) in told
    assert ("key:1", {"node_seconds": 2.0}) in told
    assert ("key:2", {"tokens": 7.0, "job_items": 1.0}) in told
    assert not any("tokens" in used for payer, used in told if payer == "key:1")
