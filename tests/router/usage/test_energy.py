"""What a card took is shared out to the last joule."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.usage.energy import CardMeter, MeterInterval, shares, split

TIMES = st.floats(-10.0, 30.0)
SPANS = st.lists(
    st.tuples(TIMES, st.one_of(TIMES, st.just(inf))).map(lambda s: tuple(sorted(s))),
    max_size=12,
)


def busy_seconds(spans, since, until, steps=4000):
    """Count moments with a stream, the simple way."""
    width = (until - since) / steps
    moments = (since + (n + 0.5) * width for n in range(steps))
    return width * sum(any(b < at < e for b, e in spans) for at in moments)


@given(spans=SPANS)
def test_parts_are_the_busy_time(spans):
    """All parts together are the time in which any stream ran; none is negative."""
    parts = shares(spans, 0.0, 20.0)
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(busy_seconds(spans, 0.0, 20.0), abs=0.15)
    for part, (began, ended) in zip(parts, spans, strict=True):
        assert part <= max(0.0, min(ended, 20.0) - max(began, 0.0)) + 1e-9


@given(spans=SPANS, cut=st.floats(0.5, 19.5))
def test_parts_add_up(spans, cut):
    """An interval that is cut in two gives the same parts."""
    whole = shares(spans, 0.0, 20.0)
    first, second = shares(spans, 0.0, cut), shares(spans, cut, 20.0)
    for one, a, b in zip(whole, first, second, strict=True):
        assert a + b == pytest.approx(one, abs=1e-9)


def test_like_parts_at_each_moment():
    """One alone for 2 s, then two for 4 s, then the other alone for 3 s."""
    assert shares([(0, 6), (2, 9)], 0, 20) == pytest.approx([4.0, 5.0])


@given(spans=SPANS, joules=st.floats(0.0, 1e6), idle=st.floats(0.0, 1e3))
def test_nothing_is_lost(spans, joules, idle):
    """Streams and idle power together are what the meter counted."""
    found = split(MeterInterval(0.0, 20.0, joules), spans, idle)
    assert sum(found.streams) + found.idle == pytest.approx(joules)
    assert min((*found.streams, found.idle)) >= 0


def test_stream_of_no_length():
    """However short the only stream was, it gets a finite part."""
    found = split(MeterInterval(0.0, 20.0, 21.0), [(0.0, 1e-307)], 0.0)
    assert ((21.0,), 0.0) == (found.streams, found.idle)


def test_idle_power_is_nobodys():
    """100 W idle for 10 s; 3000 J more for the one stream, for as long as it ran."""
    found = split(MeterInterval(0.0, 10.0, 4000.0), [(2.0, 4.0)], 100.0)
    assert ((3000.0,), 1000.0) == (found.streams, found.idle)


def test_meter_begins_anew():
    """The first reading, a counter that fell and one that jumped say nothing."""
    meter = CardMeter()
    assert meter.read(0.0, 5000.0) is None
    assert meter.read(5.0, 5500.0) == MeterInterval(0.0, 5.0, 500.0)
    assert meter.read(5.0, 5500.0) is None
    assert meter.read(10.0, 20.0) is None
    assert meter.read(15.0, 320.0) == MeterInterval(10.0, 15.0, 300.0)
    assert meter.read(20.0, 1e9) is None
    assert meter.read(30.0, 1e9 + 100) == MeterInterval(20.0, 30.0, 100.0)


def test_idle_power_is_learned():
    """From intervals without a stream that come after another one without."""
    meter = CardMeter()
    for watts, busy in ((300, True), (280, True)):
        meter.learn(MeterInterval(0.0, 5.0, 5.0 * watts), busy=busy)
    assert meter.idle_watts == 280.0
    for watts in (150, 60, 60):
        meter.learn(MeterInterval(0.0, 5.0, 5.0 * watts), busy=False)
    assert meter.idle_watts == 60.0
    meter.learn(MeterInterval(0.0, 5.0, 5.0 * 70), busy=False)
    assert meter.idle_watts == pytest.approx(63.0)
    meter.learn(MeterInterval(0.0, 5.0, 5.0 * 400), busy=True)
    assert meter.idle_watts == pytest.approx(63.0)
