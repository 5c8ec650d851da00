"""Which k a reply speaks for."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from router.capacity.concurrency import Occupancy


def occupancy(*changes: tuple[float, int]) -> Occupancy:
    made = Occupancy()
    for at, by in changes:
        made.change(by, at)
    return made


def test_steady_over_the_stretch_alone():
    """What was before the stretch does not count."""
    seen = occupancy((0.0, 1), (10.0, 1), (20.0, 1))
    assert [3, 2, None] == [
        seen.steady(5.0, 25.0),
        occupancy((0.0, 1), (10.0, 1)).steady(10.0, 20.0),
        seen.steady(25.0, 25.0),
    ]


def test_mostly_one_k_counts_as_it():
    """A short overlap does not spoil a reply."""
    assert occupancy((0.0, 1), (1.0, 1)).steady(20.0, 20.0) == 2


def test_forgotten_past_says_nothing():
    """Beyond the marks that are kept there is no answer."""
    seen = occupancy((0.0, 1), *((float(n), (-1) ** n) for n in range(1, 200)))
    assert seen.steady(199.0, 199.5) is None


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=60), st.data())
def test_agrees_with_the_sum(gaps, data):
    """The marks give the same mean as adding up every stretch."""
    seen, at, history = Occupancy(), 0.0, []
    for gap in gaps:
        at += gap
        by = data.draw(st.sampled_from((1, -1))) if seen.count else 1
        seen.change(by, at)
        history.append((at, seen.count))
    end = at + 1.0
    history.append((end, seen.count))
    start = history[0][0]
    spent = [(b[0] - a[0], a[1]) for a, b in pairwise(history)]
    mean = sum(s * k for s, k in spent) / (end - start)
    square = sum(s * k * k for s, k in spent) / (end - start)
    variance = square - mean * mean
    if abs(variance - 0.2) < 1e-3 or abs(mean % 1 - 0.5) < 1e-3:
        return
    wanted = max(1, round(mean)) if variance <= 0.2 else None
    assert wanted == seen.steady(end - start, end)
