"""S(k), the total speed of streams that decode together."""

from __future__ import annotations

import pytest

from simulator.speed import Scaling, total_speed


@pytest.mark.parametrize(
    ("scaling", "streams", "expected"),
    [
        (Scaling.MEASURED, 0, 0.0),
        (Scaling.MEASURED, 1, 1.0),
        (Scaling.MEASURED, 3, 1.54),
        (Scaling.MEASURED, 4, 1.24),
        (Scaling.MEASURED, 5, 1.395),
        (Scaling.MEASURED, 16, 1.65),
        (Scaling.MEASURED, 300, 1.65),
        (Scaling.KERNEL, 4, 3.0),
        (Scaling.FLAT, 9, 1.0),
        (Scaling.LINEAR, 9, 9.0),
    ],
)
def test_follows_the_profile(scaling, streams, expected):
    """The points as measured, straight between them, level at the end."""
    assert total_speed(streams, scaling) == pytest.approx(expected)


def test_four_streams_are_slower_than_three():
    """What makes the number of slots in use worth learning."""
    assert total_speed(4) < total_speed(3)
