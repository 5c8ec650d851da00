"""A wait is foretold from the work ahead, and refused only when it is hopeless."""

from __future__ import annotations

import pytest

from router.scheduling.wait_estimate import expected_wait, hopeless


class Slots:
    """Two slots on `a`, held ten seconds each; four on `b`, held forty."""

    def limit(self, node, model):
        return {"a": 2, "b": 4, "new": 1}[node]

    def slot_seconds(self, node):
        return {"a": 10.0, "b": 40.0, "new": None}[node]


@pytest.mark.parametrize(
    ("nodes", "ahead", "seconds"),
    [
        (["a"], 0, 5.0),
        (["a"], 9, 50.0),
        (["a", "b"], 5, 20.0),
        (["a", "new"], 9, None),
        ([], 9, None),
    ],
    ids=["next", "tenth", "two nodes", "a node nothing is known of", "no node"],
)
def test_expected_wait(nodes, ahead, seconds):
    """Work ahead over the rate at which slots come free; unknown is unknown."""
    found = expected_wait(Slots(), nodes, "m", ahead)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("wait", "left", "refused"),
    [(10.0, 10.0, False), (15.9, 10.0, False), (17.0, 10.0, True), (0.9, 0.0, False)],
    ids=["just", "a little over", "clearly over", "short waits are never hopeless"],
)
def test_hopeless(wait, left, refused):
    """Only what exceeds the time left clearly."""
    assert refused is hopeless(wait, left)
