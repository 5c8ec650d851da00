"""The bound on what all requests' bodies hold together."""

from __future__ import annotations

import pytest

from router.errors import BodiesFullError
from router.server.body_budget import BodyBudget


def test_what_does_not_fit_is_refused_and_not_counted():
    """A body over the sum leaves what is held as it was; a freed place is given."""
    bodies = BodyBudget(100)
    bodies.hold(60)
    bodies.hold(40)
    with pytest.raises(BodiesFullError, match=r"100 bytes .* 1 more do not fit into 1"):
        bodies.hold(1)
    assert bodies.held_bytes == 100
    bodies.release(60)
    bodies.hold(59)
    assert bodies.held_bytes == 99


def test_expected_is_not_held():
    """A length that is only announced takes nobody's place."""
    bodies = BodyBudget(100)
    bodies.expect(100)
    bodies.hold(1)
    with pytest.raises(BodiesFullError) as caught:
        bodies.expect(100)
    assert (1, 429, 5.0) == (
        bodies.held_bytes,
        caught.value.status,
        caught.value.retry_after_seconds,
    )


def test_lower_limit_holds_at_once():
    """A reload may set less than is held: what is there stays, nothing is added."""
    bodies = BodyBudget(100)
    bodies.hold(80)
    bodies.most_bytes = 50
    with pytest.raises(BodiesFullError):
        bodies.hold(1)
    bodies.release(80)
    bodies.hold(50)
