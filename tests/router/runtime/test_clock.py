"""The wall clock as it is, or shifted by a test's file."""

from __future__ import annotations

import time

import pytest

from router.runtime.clock import VARIABLE, wall_clock


def test_without_the_variable_it_is_the_machines():
    """Nothing stands between."""
    assert wall_clock({}) is time.time


@pytest.mark.parametrize(("text", "shift"), [("600", 600), ("-5.5", -5.5), ("x", 0)])
def test_the_file_shifts_it_while_it_runs(tmp_path, text, shift):
    """Read each time; what is no number shifts nothing, nor does a missing file."""
    file = tmp_path / "clock"
    clock = wall_clock({VARIABLE: str(file)})
    assert clock() == pytest.approx(time.time(), abs=1)
    file.write_text(text)
    assert clock() == pytest.approx(time.time() + shift, abs=1)
