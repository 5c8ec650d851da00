"""Slots are counted once, whatever ends them."""

from __future__ import annotations

from math import inf

import pytest

from router.capacity import learned
from router.capacity.ledger import Ledger
from router.capacity.slot_policy import LearnedSlots
from router.model import Node, Outcome, Timings

NODES = [Node("a", "http://a:1", slots=2), Node("b", "http://b:1")]


def ledger() -> Ledger:
    made = Ledger(default_slots=1, clock=lambda: 0.0)
    made.configure(NODES)
    return made


def test_slots_from_inventory_or_default():
    """A node without a ceiling gets the default; an unknown one has none."""
    assert [2, 1, 0] == [ledger().slots(name) for name in ("a", "b", "gone")]


def test_lease_ends_once():
    """Calls after the first neither free a second slot nor tell listeners again."""
    books, ended = ledger(), []
    books.listen(lambda lease, outcome, _: ended.append((lease.node, outcome)))
    lease = books.take("a", "m")
    assert (1, 1) == (books.in_flight("a"), books.free("a"))
    lease.done(Outcome.END)
    lease.done(Outcome.CLIENT_GONE)
    assert (0, 2) == (books.in_flight("a"), books.free("a"))
    assert [("a", Outcome.END)] == ended


def test_leases_outlive_the_inventory():
    """A node that leaves takes no new work, and its lease still ends well."""
    books = ledger()
    lease = books.take("a", "m")
    books.configure(NODES[1:])
    assert books.free("a") == -1
    lease.done(Outcome.END)
    assert books.in_flight("a") == 0


def test_speed_follows_replies():
    """The first replies are averaged; one too short to tell counts for nothing."""
    books = ledger()
    for tokens, seconds in ((100, 1.0), (200, 1.0), (1, 9.0)):
        timings = Timings(generated_tokens=tokens, generate_seconds=seconds)
        books.take("a", "m").done(Outcome.END, timings)
    assert books.speed("a", "m") == pytest.approx(150, rel=0.01)
    assert books.speed("b", "m") is None
    assert [("a", "m")] == [key for key, _ in books.speeds()]


def test_speed_is_right_again_soon():
    """A node that slows to a quarter is known for it within twenty replies."""
    books = ledger()
    for seconds in [1.0] * 30 + [4.0] * 20:
        timings = Timings(generated_tokens=100, generate_seconds=seconds)
        books.take("a", "m").done(Outcome.END, timings)
    speed = books.speed("a", "m")
    assert speed is not None
    assert speed < 37


def test_revoked_for_a_person():
    """A lease that allows it is taken back once; its slot is free when it ended."""
    books, told = ledger(), []
    lease = books.take("a", "m")
    assert (False, False) == (lease.revocable, lease.revoke())
    lease.allow_revoking(lambda: told.append(lease))
    assert (True, True, False) == (lease.revocable, lease.revoke(), lease.revoke())
    assert ([lease], 1) == (told, books.in_flight("a"))
    lease.done(Outcome.REVOKED)
    assert books.in_flight("a") == 0


def test_how_long_people_have_been_away():
    """Items leave no trace; where nobody was it has been for ever."""
    now = [100.0]
    books = Ledger(4, lambda: now[0])
    assert inf == books.quiet_seconds("a")
    books.take("a", "m").done(Outcome.END)
    now[0] = 103.0
    item = books.take("a", "m")
    item.allow_revoking(lambda: None)
    item.done(Outcome.REVOKED)
    assert 3.0 == books.quiet_seconds("a")


def test_ended_lease_is_not_revoked():
    """Who has ended already is not told to."""
    books, told = ledger(), []
    lease = books.take("a", "m")
    lease.allow_revoking(lambda: told.append(lease))
    lease.done(Outcome.END)
    assert (False, []) == (lease.revoke(), told)


def test_leases_by_age():
    """A node's leases are listed oldest first."""
    books = ledger()
    first, second = books.take("a", "m"), books.take("a", "m")
    assert (first, second) == books.leases("a")
    first.done(Outcome.END)
    assert (second,) == books.leases("a")


def test_what_is_learned_is_bounded(monkeypatch):
    """Of nodes and models that nobody asks for any more, the oldest are forgotten."""
    monkeypatch.setattr(learned, "_MOST_CURVES", 50)
    books = ledger()
    for number in range(80):
        reply(books, "b", f"m{number}")
    assert len(books.curves) == len(books._last_end) == 50
    assert books.speed("b", "m0") is None
    assert len(books.learned._of_model) == 50
    policy = books.learned.policy
    assert isinstance(policy, LearnedSlots)
    assert sum(len(shape._nodes) for shape in policy.shapes.values()) == 50


def test_what_is_shown_is_bounded():
    """Metrics and pages have the newest."""
    books = ledger()
    for number in range(9):
        reply(books, "ab"[number % 2], f"m{number}")
    newest = [model for (_, model), _ in books.learned.newest(3)]
    assert newest == ["m6", "m7", "m8"]
    of_node = [model for (_, model), _ in books.learned.newest(2, {"b"})]
    assert of_node == ["m5", "m7"]


@pytest.mark.long
def test_a_thousand_nodes_with_a_hundred_models_are_known():
    """None of them is forgotten."""
    books = Ledger(1, lambda: 0.0)
    names = [f"n{number}" for number in range(1000)]
    books.configure(Node(name, f"http://{name}:1", slots=2) for name in names)
    for model in range(100):
        for name in names:
            reply(books, name, f"m{model}")
    assert len(books.curves) == 100_000
    assert books.speed("n0", "m0") == books.speed("n999", "m99") == 100.0


def reply(books: Ledger, node: str, model: str) -> None:
    timings = Timings(generated_tokens=100, generate_seconds=1.0)
    books.take(node, model).done(Outcome.END, timings)
