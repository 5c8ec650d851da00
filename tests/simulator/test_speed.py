"""S(k), the total speed of streams that decode together."""

from __future__ import annotations

import pytest

from simulator.speed import Scaling, total_speed


@pytest.mark.parametrize(
    ("scaling", "streams", "expected"),
    [
        (Scaling.CPU_STARVED, 0, 0.0),
        (Scaling.CPU_STARVED, 1, 1.0),
        (Scaling.CPU_STARVED, 3, 1.54),
        (Scaling.CPU_STARVED, 4, 1.24),
        (Scaling.CPU_STARVED, 5, 1.395),
        (Scaling.CPU_STARVED, 16, 1.65),
        (Scaling.CPU_STARVED, 300, 1.65),
        (Scaling.H200, 2, 1.14),
        (Scaling.H200, 5, 2.24),
        (Scaling.H200, 16, 3.9),
        (Scaling.KERNEL, 4, 3.0),
        (Scaling.OLLAMA, 3, 1.28),
        (Scaling.FLAT, 9, 1.0),
        (Scaling.LINEAR, 9, 9.0),
    ],
)
def test_follows_the_profile(scaling, streams, expected):
    """The points as measured, straight between them, level at the end."""
    assert total_speed(streams, scaling) == pytest.approx(expected)


def test_four_streams_of_a_starved_node_are_slower_than_three():
    """What makes the number of slots in use worth learning."""
    starved = Scaling.CPU_STARVED
    assert total_speed(4, starved) < total_speed(3, starved)
    assert total_speed(4) > total_speed(3)


def test_the_old_name_of_a_profile():
    """`measured` is taken for one more release, and means what it meant."""
    assert Scaling("measured") is Scaling.CPU_STARVED
