"""Durations in Go's notation."""

from __future__ import annotations

import pytest

from router.text.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        (".5s", 0.5),
        ("5.s", 5.0),
        ("2h45m30.5s", 9930.5),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("1ns", 1e-9),
        ("-1m", -60.0),
        ("+3s", 3.0),
        ("0", 0.0),
        ("-0", 0.0),
        ("0s", 0.0),
    ],
)
def test_as_go_reads_it(text, seconds):
    """Each form that Go takes is so many seconds."""
    assert seconds == pytest.approx(parse_duration(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "30",
        "s",
        "1 s",
        "1d",
        "1m30",
        "1.2.3s",
        ".s",
        "x",
        "1e3s",
        "9" * 99 + "s",
    ],
)
def test_no_duration(text):
    """Anything else is none, a bare number too."""
    assert parse_duration(text) is None
