"""Whose fault an answer is, and how many retries there may be."""

from __future__ import annotations

import json

import pytest

from router.failover.retry import RetryBudget, speaks_of_node


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (404, "model 'm' not found", True),
        (404, 'model "m" not found, try pulling it first', True),
        (404, "page missing", False),
        (400, "model is required", False),
        (400, '"m" does not support embeddings', False),
        (500, "model runner has unexpectedly stopped, this may be due to", True),
        (500, "llama runner process has terminated: exit status 2", True),
        (500, "model requires more system memory (9 GiB) than is available", True),
        (500, "CUDA error: out of memory", True),
        (500, "invalid options", False),
        (503, "server busy, please try again.  maximum pending requests", True),
        (502, "", True),
        (200, "model 'm' not found", False),
    ],
)
def test_whose_fault(status, text, expected):
    """Only answers that speak of the node are tried elsewhere."""
    body = json.dumps({"error": text}).encode()
    assert expected is speaks_of_node(status, body)


def test_v1_errors_are_read_too():
    """The same text in OpenAI's object."""
    body = json.dumps({"error": {"message": "model 'm' not found"}}).encode()
    assert speaks_of_node(404, body)


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
