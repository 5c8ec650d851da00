"""Which cases of a parametrized test run every day."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence

import pytest

LONG = "INFEROPS_LONG" in os.environ


def long_but(cases: Iterable[object], daily: Container[object]) -> list[object]:
    """Give a param for each of `cases`; all but `daily` wait for `make test-long`.

    For cases that take seconds each and go the same ways.
    """
    return [
        pytest.param(case, marks=[] if case in daily else pytest.mark.long)
        for case in cases
    ]


def one_each_time(versions: Sequence[object]) -> list[object]:
    """Give a fixture's params: the first is the daily one; None where there is none."""
    return long_but(versions, versions[:1]) or [None]
