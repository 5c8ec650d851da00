"""Which k a reply speaks for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.capacity.concurrency import ConcurrencyLog


def occupancy(*changes: tuple[float, int]) -> ConcurrencyLog:
    made = ConcurrencyLog()
    for at, by in changes:
        made.change(by, at)
    return made


def test_steady_over_the_stretch_alone():
    """What was before the stretch does not count."""
    seen = occupancy((0.0, 1), (10.0, 1), (20.0, 1))
    assert [(3, 1.0), (2, 1.0), None] == [
        seen.steady(5.0, 25.0),
        occupancy((0.0, 1), (10.0, 1)).steady(10.0, 20.0),
        seen.steady(25.0, 25.0),
    ]


def test_mostly_one_k_counts_as_it():
    """A short overlap does not spoil a reply, but is told."""
    steady = occupancy((0.0, 1), (1.0, 1)).steady(20.0, 20.0)
    assert steady is not None
    streams, purity = steady
    assert streams == 2
    assert purity == pytest.approx(1 - 0.0475 / 0.2)


def test_forgotten_past_says_nothing():
    """Beyond the marks that are kept there is no answer."""
    seen = occupancy((0.0, 1), *((float(n), (-1) ** n) for n in range(1, 200)))
    assert seen.steady(199.0, 199.5) is None


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=60), st.data())
def test_agrees_with_the_sum(gaps, data):
    """The marks give the same mean as adding up every stretch."""
    seen, at, history = ConcurrencyLog(), 0.0, []
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
    steady = seen.steady(end - start, end)
    assert wanted == (steady and steady[0])


@dataclass
class Lease:
    """Phases of a request: from when, of what kind, and its first line."""

    taken_at: float
    decoding_since: float | None = None
    streams: bool = True


def ended(seen: ConcurrencyLog, lease: Lease, at: float) -> None:
    seen.read(lease, lease.decoding_since, 0.0, at)


def test_time_in_which_prompts_were_read():
    """Of those that ended and those that run, each moment once, from `since` on."""
    seen = ConcurrencyLog()
    ended(seen, Lease(0.0, 2.0), 9.0)
    ended(seen, Lease(1.0, 3.0), 9.5)
    running = [Lease(2.5, 4.0), Lease(8.0)]
    assert seen.reading(running, 1.5, 10.0) == pytest.approx(2.5 + 2.0)
    assert seen.reading([], 1.5, 10.0) == pytest.approx(1.5)
    assert seen.reading([], 5.0, 10.0) == 0.0


def test_a_wait_in_the_node_is_no_reading():
    """Where the reply tells for how long its prompt was read."""
    seen = ConcurrencyLog()
    seen.read(Lease(0.0, 8.0), 8.0, 1.0, 9.0)
    assert seen.reading([], 0.0, 9.0) == pytest.approx(1.0)


def test_a_reply_that_is_no_stream_reads_as_long_as_others_did():
    """Twice that: when its answer begins cannot be seen. Before any did, all along."""
    seen = ConcurrencyLog()
    whole = Lease(0.0, streams=False)
    assert seen.reading([whole], 0.0, 10.0) == 10.0
    ended(seen, Lease(-9.0, -8.0), -7.0)
    assert seen.reading([whole], 0.0, 10.0) == pytest.approx(2.0)


def test_two_models_on_one_node():
    """While both run, and in the time that they ran together."""
    seen = ConcurrencyLog()
    seen.change(1, 0.0, "a")
    assert not seen.mixed(0.0)
    seen.change(1, 1.0, "b")
    assert seen.mixed(5.0)
    seen.change(-1, 6.0, "b")
    assert (True, False) == (seen.mixed(5.0), seen.mixed(7.0))
