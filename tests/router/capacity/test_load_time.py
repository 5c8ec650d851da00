"""What a load costs, and when it is made."""

from __future__ import annotations

import pytest

from router.capacity.ledger import Ledger
from router.capacity.load_time import LoadTimes, MissedGains, guess
from router.model import Node, Outcome, Timings

M, OTHER = "m:latest", "other:latest"
GIGABYTE = 10**9


def test_a_guess_until_a_node_has_shown_it():
    """Its size at disk speed; then what was seen, and other models in proportion."""
    times = LoadTimes()
    assert times.seconds("n", M, 4 * GIGABYTE) == pytest.approx(5.5)
    times.learn("n", M, 4 * GIGABYTE, 11.0)
    assert times.seconds("n", M, 4 * GIGABYTE) == pytest.approx(11.0)
    assert times.seconds("n", OTHER, 8 * GIGABYTE) == pytest.approx(19.0)
    assert times.seconds("else", M, 4 * GIGABYTE) == pytest.approx(5.5)


def test_one_slow_load_is_soon_outweighed():
    """A disk that was busy once does not keep a model away for ever."""
    times = LoadTimes()
    for seconds in (60.0, *[5.0] * 12):
        times.learn("n", M, GIGABYTE, seconds)
    assert times.seconds("n", M, GIGABYTE) == pytest.approx(5.0, rel=0.2)


def test_missed_gains_add_up_and_fade():
    """What was lost minutes ago says little of what is still to come."""
    missed = MissedGains()
    missed.add(("n", M), 2.0, now=0.0)
    missed.add(("n", M), 1.0, now=120.0)
    assert missed.gain(("n", M), now=120.0) == pytest.approx(2.0)
    missed.pay(("n", M))
    assert missed.gain(("n", M), now=120.0) == 0.0


@pytest.fixture
def ledger():
    made = Ledger(4, lambda: made.now)
    made.now = 0.0
    made.configure([Node("n", "http://n:1", slots=4)])
    return made


def test_a_load_under_way_costs_what_is_left_of_it(ledger):
    """Who comes while a node loads waits for the rest only."""
    price = guess(4 * GIGABYTE)
    lease = ledger.take("n", M)
    ledger.now = 2.0
    assert ledger.load_price("n", M, 4 * GIGABYTE) == pytest.approx(price - 2.0)
    assert ledger.load_price("n", OTHER, 4 * GIGABYTE) == pytest.approx(price)
    ledger.now = 60.0
    assert ledger.load_price("n", M, 4 * GIGABYTE) == 0.0
    lease.done(Outcome.CLIENT_GONE)
    assert ledger.load_price("n", M, 4 * GIGABYTE) == pytest.approx(price)


def test_what_was_missed_pays_only_for_an_empty_node(ledger):
    """Where another model must go, others would pay."""
    ledger.missed_gain("n", M, 3.0)
    price = guess(4 * GIGABYTE)
    assert ledger.load_price("n", M, 4 * GIGABYTE) == pytest.approx(price)
    paid = ledger.load_price("n", M, 4 * GIGABYTE, evicts=False)
    assert paid == pytest.approx(price - 3.0)


def load(ledger: Ledger, seconds: float, *, continued: bool = False) -> None:
    lease = ledger.take("n", M)
    lease.continued = continued
    ledger.now += seconds + 2.0
    lease.done(Outcome.END, Timings(20, 100, 0.1, 1.9, load_seconds=seconds))


def test_the_load_time_is_learned_from_who_came_first(ledger):
    """Others waited for a part of it, and a continued answer for another reason."""
    load(ledger, 30.0, continued=True)
    ledger.take("n", M)
    load(ledger, 30.0)
    assert ledger.load_times.seconds("n", OTHER, 0) == pytest.approx(1.5)
    (first,) = ledger.leases("n")
    first.done(Outcome.CLIENT_GONE)
    load(ledger, 6.0)
    assert ledger.load_times.seconds("n", OTHER, 0) == pytest.approx(6.0)
