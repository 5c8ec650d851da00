"""How many retries there may be."""

from __future__ import annotations

from router.failover.retry import RetryBudget


def test_budget_bounds_a_storm():
    """With every request failing, retries end at the minimum and the share."""
    budget, retries = RetryBudget(ratio=0.2, minimum=3), 0
    for _ in range(100):
        budget.deposit()
        retries += budget.withdraw()
    assert 20 <= retries <= 23


def test_budget_of_nothing():
    """A ratio of zero allows the minimum, once."""
    budget = RetryBudget(ratio=0.0, minimum=1)
    assert [True, False] == [budget.withdraw(), budget.withdraw()]
