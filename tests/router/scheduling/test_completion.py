"""What a request costs on a node, and those beside it."""

from __future__ import annotations

import pytest

from router.scheduling.request import Work
from tests.router.scheduling.offering import offer

WORK = Work(1000.0, 200.0, 60_000.0)


def test_completion_is_the_sum_of_its_parts():
    """Load, other prompts, its own prompt, its own answer."""
    made = offer("a", load=2.0, read_until=13.0)

    assert made.first_token(WORK, 10.0) == pytest.approx(2 + 3 + 0.3)
    assert made.completion(WORK, 10.0) == pytest.approx(2 + 3 + 0.3 + 2)


def test_what_was_read_meanwhile_delays_nobody():
    """A time that has passed is no wait."""
    assert offer("a", read_until=9.0).first_token(WORK, 10.0) == pytest.approx(0.3)


def test_cost_of_an_idle_node():
    """The square of the completion as expected, and the first token's, eight times."""
    certain = Work(1000.0, 200.0, 200.0**2)

    assert offer("a").cost(certain, 0.7, 200.0, 0.0) == pytest.approx(
        (0.7 + 0.3 + 2) ** 2 + 8 * (0.7 + 0.3) ** 2
    )


def test_a_long_tail_costs_more_on_a_slow_node():
    """Of two kinds of request of one mean, the less certain one gains by speed."""
    certain, uncertain = Work(0.0, 200.0, 200.0**2), Work(0.0, 200.0, 4 * 200.0**2)
    quick, slow = offer("quick", per_token=0.01), offer("slow", per_token=0.03)

    def loss(work: Work) -> float:
        return slow.cost(work, 0, 200, 0) - quick.cost(work, 0, 200, 0)

    assert loss(uncertain) > 2 * loss(certain)


@pytest.mark.parametrize(
    "more",
    [
        {"running": 2, "lengths": 2},
        {"slowed": 0.02},
        {"arrivals": -60.0},
        {"per_prompt_token": 0.003},
    ],
    ids=["more of them", "slowed more", "older", "a longer time to read"],
)
def test_streams_beside_it_count(more):
    """What a node's other streams lose is part of the cost."""
    one = {"streams": 1, "slowed": 0.005, "running": 1, "lengths": 1}
    before = offer("a", **one).cost(WORK, 0.0, 200.0, 0.0)

    assert offer("a", **{**one, **more}).cost(WORK, 0.0, 200.0, 0.0) > before
