"""Middles, ranges and tables."""

from __future__ import annotations

import math

from bench.figures import quantiles, spread, table, values


def test_quantiles_are_in_milliseconds():
    """Of a hundred values, the p99 is the last but none."""
    seconds = [each / 1000 for each in range(100)]

    assert quantiles(seconds) == {"p50": 50.0, "p99": 99.0, "largest": 99.0}


def test_no_values_have_no_quantiles():
    """A run without a reply shows as such, and does not end the report."""
    assert all(math.isnan(each) for each in quantiles([]).values())


def test_values_are_taken_from_within():
    """Several keys lead down into each run."""
    runs = [{"gap": {"p99": 1}}, {"gap": {"p99": 3}}]

    assert values(runs, "gap", "p99") == [1.0, 3.0]
    assert spread(values(runs, "gap", "p99")) == "2.0 (1.0 to 3.0)"


def test_table_keeps_its_columns():
    """Numbers stand under each other, at the right."""
    assert table(["", "CPU"], [["nginx", "7"], ["router", "12.5"]]) == [
        "         CPU",
        "nginx      7",
        "router  12.5",
    ]
