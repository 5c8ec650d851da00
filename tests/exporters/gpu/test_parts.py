"""The pure parts of the GPU exporter: rings, offsets, integrals, windows, counters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.gpu.histograms import Histogram
from exporters.gpu.integrals import Integral, Times, Unwrapped
from exporters.gpu.quantity import RING, SNAPSHOT, Quantity
from exporters.gpu.rows import Row
from exporters.gpu.samples import Changes, Offset, Ring, Sample
from exporters.gpu.windows import Windows


def test_a_ring_gives_each_sample_once() -> None:
    """Overlapping looks, in any order: what was seen is not given again."""
    ring = Ring()
    assert ring.take([(1_000_000, 1.0)]) == []  # from before the watch began
    assert ring.take([(1_200_000, 3.0), (1_100_000, 2.0), (1_000_000, 1.0)]) == [
        Sample(1.1, 2.0),
        Sample(1.2, 3.0),
    ]
    assert ring.take([(1_200_000, 3.0)]) == []
    assert ring.interval == pytest.approx(0.1)
    assert ring.total == 2


def test_an_empty_first_look_does_not_count_as_the_first() -> None:
    """A card that idled at the start must not have its history counted later."""
    ring = Ring()
    assert ring.take([]) == []
    assert ring.take([(5, 1.0)]) == []
    assert ring.take([(6, 1.0)]) == [Sample(6e-6, 1.0)]


@given(st.lists(st.sets(st.integers(1, 400), max_size=40), min_size=1, max_size=10))
def test_whatever_the_looks_a_sample_counts_once(looks) -> None:
    """Totals are the number of distinct stamps beyond those of the first look."""
    ring = Ring()
    given_out = [
        sample
        for look in looks
        for sample in ring.take([(stamp, 0.0) for stamp in look])
    ]
    stamps = [sample.at for sample in given_out]
    assert stamps == sorted(set(stamps))
    assert ring.total == len(stamps)


def test_the_offset_is_the_least_of_late() -> None:
    """Each look is late by up to its pace; none is early."""
    offset = Offset()
    assert offset.ours(7.0) == 7.0
    for age in (0.5, 0.02, 0.3):
        offset.learn(100.0, 1100.0 + age)
    assert offset.ours(100.0) == pytest.approx(1100.02)


def test_only_changes_of_a_polled_value_are_samples() -> None:
    """A thousand reads a second of one driver value are one sample."""
    changes = Changes()
    read = [1, 1, 1, 2, 2, 2, 3, 3]
    taken = [changes.take(at / 10, value) for at, value in enumerate(read)]
    assert taken == [True, False, False, True, False, False, True, False]
    assert changes.interval == pytest.approx(0.3)


def test_time_that_no_sample_speaks_for_is_left_out() -> None:
    """A gap is neither filled nor counted as observed."""
    integral = Integral()
    integral.add(10.0, 5.0, "a", 1.0)  # only begins
    integral.add(10.5, 2.0, "a", 1.0)
    integral.add(20.0, 2.0, "a", 1.0)
    integral.add(19.0, 9.0, "a", 1.0)  # late: that time is counted already
    assert integral.total == pytest.approx(0.5 * 2 + 1.0 * 2)
    assert integral.observed == {"a": pytest.approx(1.5)}


def test_times_of_conditions() -> None:
    """A condition holds from one look to the next, but not over a pause."""
    times = Times(longest=1.0)
    times.add(0.0, {"hot": True, "idle": False})
    times.add(0.5, {"hot": True, "idle": False})
    times.add(9.0, {"hot": False, "idle": True})
    assert times.seconds == {"hot": 0.5, "idle": 1.0}


@pytest.mark.parametrize(
    ("readings", "wraps_at", "total"),
    [
        pytest.param((5, 9), 0, 9, id="grows"),
        pytest.param((2**32 - 1, 4), 2**32, 2**32 + 4, id="wraps"),
        pytest.param((100, 4), 0, 104, id="begins anew"),
    ],
)
def test_a_counter_that_wraps(readings, wraps_at, total) -> None:
    """A smaller value is a wrap where the counter is narrow, else a new counter."""
    counter = Unwrapped()
    for reading in readings:
        told = counter.add(reading, wraps_at)
    assert told == total


def test_a_histogram_is_cumulative_and_its_edges_belong_to_it() -> None:
    """`le` is less or equal, as Prometheus has it; no series before a sample."""
    histogram = Histogram("x", (1, 2))
    assert list(histogram.rows()) == []
    for value in (0.5, 1, 1.5, 3):
        histogram.add(value)
    assert list(histogram.rows()) == [
        Row("x_bucket", 2, {"le": "1.0"}),
        Row("x_bucket", 3, {"le": "2.0"}),
        Row("x_bucket", 4, {"le": "+Inf"}),
        Row("x_count", 4),
        Row("x_sum", 6.0),
    ]


def test_only_a_window_that_is_over_is_told_of() -> None:
    """Not the one that we began in, nor one whose samples are not all drained."""
    windows = Windows("x_{}", 15.0)
    windows.add(7.0, 99.0)
    for at, value in ((15.0, 3.0), (20.0, 1.0), (29.9, 2.0), (30.0, 50.0)):
        windows.add(at, value)
    assert list(windows.rows(17.5)) == []
    assert list(windows.rows(31.9)) == []
    expected = [Row("x_min", 1.0), Row("x_max", 3.0)]
    assert list(windows.rows(32.0)) == expected
    assert list(windows.rows(46.9)) == expected
    assert list(windows.rows(47.0)) == [Row("x_min", 50.0), Row("x_max", 50.0)]
    assert list(windows.rows(62.0)) == []  # a window without a sample


def test_a_value_that_is_none_is_not_taken() -> None:
    """The driver's blank is no utilisation of 2,000 %."""
    quantity = Quantity("utilization", 1)
    quantity.drained([(1_000_000, 0.5)], 1.0, 1.0)
    quantity.drained([(1_200_000, 21.47), (1_400_000, 0.5)], 1.4, 1.4)
    assert quantity.integral.total == pytest.approx(0.5 * 0.4)


def test_which_source_speaks() -> None:
    """The buffer while it gives samples, else what is polled; both never at once."""
    quantity = Quantity("power", 1e5)
    assert quantity.source(0.0) is None
    quantity.polled(100.0, 0.0, 0.0)
    assert quantity.source(0.0) == SNAPSHOT
    quantity.drained([(500, 90.0)], 1.0, 1.0)
    assert quantity.source(1.0) == RING
    quantity.polled(500.0, 1.1, 1.1)
    assert quantity.integral.total == 0
    assert quantity.source(9.0) == SNAPSHOT
