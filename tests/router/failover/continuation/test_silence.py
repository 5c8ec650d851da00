"""How long a silence may be."""

from __future__ import annotations

import pytest

from router.failover.continuation.silence import longest_silence


@pytest.mark.parametrize(
    ("speed", "seconds"),
    [(None, 120), (322.0, 5), (60.0, 5), (15.0, 20), (3.0, 100), (1.0, 120)],
)
def test_silence(speed, seconds):
    """Fast nodes are given up soon, slow ones later, none after the ceiling."""
    assert longest_silence(speed, 120) == seconds
