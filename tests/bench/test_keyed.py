"""What keys and limits cost: the run and its table; no figure is judged here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness.process import ROOT


@pytest.mark.e2e
@pytest.mark.long
def test_measures():
    """The key opens the router, and no limit is reached."""
    argv = ["--streams", "4", "--seconds", "1", "--rounds", "1", "--calls", "16"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.keyed", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "faults 0" in done.stdout
    for what in (
        "CPU us/token",
        "whole replies/s",
        "added to first token, 16 at once, ms, p99",
    ):
        assert what in done.stdout
