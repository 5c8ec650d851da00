"""How long a load takes, as it is learned."""

from __future__ import annotations

import pytest

from router.capacity.ledger import Ledger
from router.capacity.load_time import LoadTimes
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


class Timed(Ledger):
    """A ledger whose time a test moves."""

    def __init__(self):
        super().__init__(4, lambda: self.now)
        self.now = 0.0
        self.configure([Node("n", "http://n:1", slots=4)])


@pytest.fixture
def ledger():
    return Timed()


def load(ledger: Timed, seconds: float, *, continued: bool = False) -> None:
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
