"""Ollama's durations."""

from __future__ import annotations

import math

import pytest

from simulator.body import ApiError, keep_alive


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        ("0", 0.0),
        (90, 90.0),
        (1.5, 1.5),
        (-1, math.inf),
        ("-1m", math.inf),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
    ],
)
def test_reads_keep_alive(value, seconds):
    """Numbers are seconds, text is Go's duration, negative is for ever."""
    assert keep_alive(value) == seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("banana", 'time: invalid duration "banana"'),
        ("10", 'time: invalid duration "10"'),
        ("5m x", 'time: invalid duration "5m x"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: 'array'"),
    ],
)
def test_refuses_other_keep_alives(value, text):
    """In Go's words."""
    with pytest.raises(ApiError) as caught:
        keep_alive(value)
    assert (caught.value.status, caught.value.text) == (400, text)
