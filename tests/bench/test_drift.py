"""A node that slows down and recovers, in virtual time: the goals that are stated."""

from __future__ import annotations

import pytest

from bench.drift import Run, main
from simulator.virtual.node import Scaling

pytestmark = pytest.mark.long


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize("scaling", [Scaling.KERNEL, Scaling.H200])
def test_slow_down_and_recovery_are_known_in_time(scaling, load):
    """Within 20 s or 10 replies, and 60 s; of the nodes that were not slowed, none."""
    found = Run("chat", "mixed-8", scaling, load, "4090-a", 301)()
    assert found.known_seconds <= 20 or found.known_replies <= 10
    assert found.found_seconds <= 60
    assert (0, 0.0) == (found.false_drifts, found.suspected_share)


@pytest.mark.parametrize("traffic", ["chat", "long", "code"])
def test_nobody_is_accused(traffic):
    """Where no node slows down, whatever prompts are read beside streams."""
    found = Run(traffic, "mixed-8", Scaling.H200, 0.7, "", 301)()
    assert (0, 0.0) == (found.false_drifts, found.suspected_share)


def test_table(capsys):
    main(["--loads", "0.3", "--nodes", "4090-a", "--seeds", "1"])
    assert 2 == len(capsys.readouterr().out.splitlines())
