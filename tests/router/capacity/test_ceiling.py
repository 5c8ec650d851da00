"""A ceiling that nobody configured is learned by careful trials."""

from __future__ import annotations

import pytest

from router.capacity.ledger import Ledger
from router.model import Node, Outcome, Timings

M = "m:latest"


class Rig:
    """One node without `__slots`; `serve` ends a lease as Ollama would tell it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ledger = Ledger(1, lambda: self.now)
        self.ledger.configure([Node("n", "http://n:1")])
        self.serve(self.ledger.take("n", M), 2.0)

    def serve(self, lease, generate: float, prompt: float = 0.1) -> None:
        """The lease ends `now` unless it still has to decode alone."""
        self.now = max(self.now, lease.taken_at + generate + prompt)
        timings = Timings(
            prompt_tokens=9,
            generated_tokens=100,
            prompt_seconds=prompt,
            generate_seconds=generate,
        )
        lease.done(Outcome.END, timings)

    def trial(self, *, together: bool) -> int:
        """Send one more than is known; return the ceiling after it."""
        held = self.ledger.slots("n")
        running = [self.ledger.take("n", M) for _ in range(held)]
        assert self.ledger.may_try_one_more("n", M)
        self.now += 1.0
        tried = self.ledger.take_one_more("n", M)
        if together:
            self.now += 4.0
            self.serve(tried, 3.9)
        for lease in running:
            self.now += 4.0
            self.serve(lease, self.now - lease.taken_at - 0.1)
        if not together:
            self.now += 3.0
            self.serve(tried, 2.5)
        return self.ledger.slots("n")


def test_grows_where_streams_ran_together():
    """Each proved trial adds a slot, a minute apart."""
    rig = Rig()
    assert rig.trial(together=True) == 2
    rig.now += 61.0
    assert rig.trial(together=True) == 3


def test_stays_where_the_trial_waited():
    """Ollama served one after the other: the ceiling stays, trials become rare."""
    rig = Rig()
    assert rig.trial(together=False) == 1
    for pause, may in ((800.0, False), (200.0, True)):
        rig.now += pause
        lease = rig.ledger.take("n", M)
        assert may is rig.ledger.may_try_one_more("n", M)
        lease.done(Outcome.CLIENT_GONE)
    rig.trial(together=False)
    rig.now += 1000.0
    rig.ledger.take("n", M)
    assert not rig.ledger.may_try_one_more("n", M), "twice as long a pause"


@pytest.mark.parametrize("case", ["waiters", "configured", "free", "unknown model"])
def test_when_no_trial_is_made(case):
    """Never under load, never beyond what is configured, never without need."""
    rig = Rig()
    if case == "configured":
        rig.ledger.configure([Node("n", "http://n:1", slots=1)])
    rig.ledger.pressed = case == "waiters"
    if case != "free":
        rig.ledger.take("n", M)
    model = "other:latest" if case == "unknown model" else M
    assert not rig.ledger.may_try_one_more("n", model)


def test_a_lost_trial_says_nothing():
    """A client that leaves during the trial neither proves nor refutes."""
    rig = Rig()
    first = rig.ledger.take("n", M)
    rig.ledger.take_one_more("n", M).done(Outcome.CLIENT_GONE)
    assert rig.ledger.slots("n") == 1
    rig.now += 61.0
    assert rig.ledger.may_try_one_more("n", M)
    first.done(Outcome.END)


def test_a_later_wait_takes_the_slot_back():
    """A node whose NUM_PARALLEL shrank is found out by a request that waited."""
    rig = Rig()
    rig.trial(together=True)
    first, second = (rig.ledger.take("n", M) for _ in range(2))
    rig.now += 4.0
    rig.serve(first, 3.9)
    rig.now += 3.0
    rig.serve(second, 2.9)
    assert rig.ledger.slots("n") == 1
