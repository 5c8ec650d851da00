"""No principal takes the queue from another, and nobody waits for good."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import OverloadedError
from router.model import Priority
from router.scheduling.fairness import FairShares, TypicalNode
from router.scheduling.queue import PASSED_BY_OTHERS, Queue, Waiter
from router.scheduling.request import PendingRequest, RoutingRequest, Work
from tests.router.scheduling.offering import offer

PEOPLE = Priority.INTERACTIVE
COSTS = st.floats(0.1, 10.0)


def waiter(principal, cost=1.0, priority=PEOPLE, model="m:1", *, woken=None) -> Waiter:
    asking = PendingRequest(RoutingRequest(model, principal=principal))
    return Waiter(asking, priority, woken or (lambda: None), cost=cost)


def serve(queue: Queue, cost: float | None = None) -> Waiter:
    """Give a slot to the first in line."""
    first = next(queue.waiting(PEOPLE, "m:1"))
    cost = first.cost if cost is None else cost
    queue.served(first, cost)
    queue.shares[PEOPLE].charge(first, first.principal, cost, 1.0)
    return first


@given(costs=st.lists(st.tuples(COSTS, COSTS, COSTS), min_size=20, max_size=60))
def test_like_shares(costs):
    """Who keeps waiting has attained the same node-seconds, but for one request."""
    queue, attained = Queue(1000), dict.fromkeys("abc", 0.0)
    for each in costs:
        for principal, cost in zip("abc", each, strict=True):
            queue.join(waiter(principal, cost))
    largest = max(max(each) for each in costs)
    while all(any(w.principal == p for w in queue) for p in "abc"):
        served = serve(queue)
        attained[served.principal] += served.cost
        # The one that leaves the line last may have had its last request just now.
        assert max(attained.values()) - min(attained.values()) <= largest + 1e-6


@given(
    arrivals=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    costs=st.lists(COSTS, min_size=40, max_size=40),
)
def test_order_of_one_principal(arrivals, costs):
    """The requests of one principal are served in the order in which they came."""
    queue = Queue(100)
    for principal, cost in zip(arrivals, costs, strict=False):
        queue.join(waiter(principal, cost))
    served = [serve(queue) for _ in arrivals]
    for principal in "abc":
        numbers = [w.number for w in served if w.principal == principal]
        assert sorted(numbers) == numbers
    assert len(queue) == 0


def test_one_request_of_each_before_a_newcomer():
    """However many requests others have there, a first one waits for one of each."""
    queue = Queue(1000)
    for principal in "abcd":
        for _ in range(50):
            queue.join(waiter(principal))
    for _ in range(11):
        serve(queue)
    newcomer = waiter("new")
    assert queue.ahead("m:1", PEOPLE, "new") <= 4
    queue.join(newcomer)
    before = [serve(queue).principal for _ in range(5)]
    assert "new" in before
    assert len(set(before)) == 5


def test_ahead_is_what_is_served_before():
    """A newcomer's expected wait counts those before it, not the flood behind."""
    queue = Queue(1000)
    for _ in range(100):
        queue.join(waiter("flood"))
    queue.join(waiter("few"))
    assert (
        1 == queue.ahead("m:1", PEOPLE, "new") - queue.ahead("m:2", PEOPLE, "new") - 1
    )
    assert queue.ahead("m:1", PEOPLE, "flood") == 101
    assert queue.ahead("m:1", Priority.BATCH, "new") == 101
    assert queue.ahead("m:1", PEOPLE) == 101


@given(debt=st.floats(0.0, 5.0), costs=st.lists(COSTS, min_size=1, max_size=20))
def test_bound_on_starvation(debt, costs):
    """An endless line of new principals holds nobody up beyond the bound."""
    most = 8
    queue, names = Queue(most), count()
    shares = queue.shares[PEOPLE]
    shares.lift("old", 0.0)
    shares.charge("running", "old", debt, 1.0)
    old = waiter("old")
    queue.join(old)
    bound = shares.bound(shares.attained("old"), max(costs))
    given_out = 0.0
    for number in count():
        while len(queue) < most:
            cost = costs[len(queue) % len(costs)]
            queue.join(waiter(f"new-{next(names)}", cost))
        served = serve(queue)
        if served is old:
            break
        given_out += served.cost
        assert given_out <= bound + 1e-6, f"{number} were served before"


@pytest.mark.parametrize("running", [0, 8])
def test_little_is_saved_up(running):
    """Who stayed away goes before others for as much as runs, and no more."""
    queue = Queue(1000)
    shares = queue.shares[PEOPLE]
    for _ in range(100):
        queue.join(waiter("busy"))
    served = [serve(queue) for _ in range(50)]
    for each in served[: 50 - running]:
        shares.ended(each, 1.0, contended=True)
    for _ in range(50):
        queue.join(waiter("rested"))
    order = [serve(queue).principal for _ in range(running + 20)]
    assert running - 1 <= order[: running + 1].count("rested") <= running + 1
    assert 9 <= order[running:].count("busy") <= 11


def test_ahead_by_what_runs_is_forgotten():
    """What runs is counted once, whatever it was charged in the end."""
    shares = FairShares(10)
    shares.lift("a", 0.0)
    for number in range(3):
        shares.charge(number, "a", 2.0, 1.0)
    assert 4.0 == shares.start("b", 10.0)
    for number in range(3):
        shares.ended(number, 5.0, contended=number > 1)
        shares.ended(number, 5.0, contended=True)
    assert 10.0 == shares.start("b", 10.0)


def test_charged_as_it_was():
    """A request that took four times as long as expected counts four times."""
    shares = FairShares(10)
    shares.lift("a", 0.0)
    shares.charge(1, "a", 2.0, 3.0)
    shares.ended(1, 12.0, contended=True)
    assert shares.attained("a") == 8.0
    shares.charge(2, "a", 2.0, 3.0)
    shares.ended(2, 0.0, contended=True)  # the node failed
    shares.charge(3, "a", 2.0, 3.0)
    shares.ended(3, 30.0, contended=False)  # nobody went without
    shares.ended(4, 1.0, contended=True)  # a job's item, never charged
    assert shares.attained("a") == 8.0


def test_forgets_those_who_left():
    """What is known of addresses has a size."""
    shares = FairShares(10)
    for number in range(20_000):
        shares.lift(f"client:{number}", 0.0)
        shares.charge(number, f"client:{number}", 1.0, 1.0)
        shares.ended(number, 1.0, contended=number % 2 == 0)
    assert len(shares._attained) <= 4096


def test_flooder_makes_room():
    """A full queue refuses who has most there, and never another."""
    queue, woken = Queue(10), []
    flood = [waiter("flood", woken=lambda: woken.append(1)) for _ in range(10)]
    for each in flood:
        queue.join(each)
    with pytest.raises(OverloadedError, match="10 requests wait already, 10 of them"):
        queue.join(waiter("flood"))
    for _ in range(5):
        queue.join(waiter("polite"))
    assert [False] * 5 + [True] * 5 == [each.displaced for each in flood]
    assert len(woken) == 5
    for principal in ("polite", "flood"):
        with pytest.raises(OverloadedError):
            queue.join(waiter(principal))
    queue.join(waiter("third"))
    assert len(queue) == 10


def test_lower_priorities_make_room():
    """Batch leaves for people, people never for batch, and no broken stream for any."""
    queue = Queue(4)
    batch = [waiter("a", priority=Priority.BATCH) for _ in range(2)]
    for each in batch:
        queue.join(each)
    for _ in range(2):
        queue.join(waiter("b", priority=Priority.CONTINUED))
    queue.join(waiter("a"))
    queue.join(waiter("a"))
    assert all(each.displaced for each in batch)
    with pytest.raises(OverloadedError):
        queue.join(waiter("c", priority=Priority.BATCH))
    queue.join(waiter("c", priority=Priority.CONTINUED))
    queue.join(waiter("c", priority=Priority.CONTINUED))
    with pytest.raises(OverloadedError):
        queue.join(waiter("d", priority=Priority.CONTINUED))
    assert queue.length(Priority.CONTINUED) == 4


def test_passed_over():
    """What suits the nodes better goes before another's request only so often."""
    mine = waiter("a")
    for _ in range(PASSED_BY_OTHERS):
        assert not mine.overdue
        mine.pass_over(waiter("b"))
    assert mine.overdue


def test_node_seconds():
    """Decoding counts by the streams that share the node; models are told apart."""
    work = Work(1000.0, 100.0, 20_000.0)
    made = offer("n", per_prompt_token=0.001, per_token=0.02, streams=3)
    typical = TypicalNode()
    assert typical.node_seconds("m:1", work) == pytest.approx(1.3)
    typical.learn("m:1", made)
    assert typical.node_seconds("m:1", work) == pytest.approx(1.5)
    for _ in range(200):
        typical.learn("m:2", made._replace(per_token=0.2))
    assert typical.node_seconds("m:2", work) == pytest.approx(6.0)
    assert typical.node_seconds("m:1", work) == pytest.approx(1.5)
    typical.learn("m:1", made._replace(per_token=2.0))  # a CPU
    assert typical.node_seconds("m:1", work) < 1.6
    for number in range(5000):
        typical.learn(f"m:{number}", made)
    assert len(typical._models) <= 4096


def test_line():
    """Until all of a principal's are served, each other has as many."""
    queue = Queue(100)
    flood = [waiter("flood") for _ in range(20)]
    polite, other = waiter("polite"), waiter("polite", model="m:2")
    for each in (*flood, polite, other):
        queue.join(each)
    assert [2, 40, 1] == [queue.line(each) for each in (polite, flood[0], other)]
