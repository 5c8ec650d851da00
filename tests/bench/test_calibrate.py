"""Calibration's half in virtual time; the other half is a run of the whole router."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.calibrate import POLICIES, in_virtual_time, main
from bench.replay import MODEL
from simulator.virtual.node import Scaling
from simulator.virtual.traffic import Traffic


@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_is_answered_in_virtual_time(policy):
    """By the simulator's own engines, behind the router's own code."""
    drawn = Traffic.of("chat").draw(4.0, 60, seed=1)
    asks = [replace(each, model=MODEL.name) for each in drawn]
    seconds = in_virtual_time(policy, Scaling.KERNEL, asks)
    assert len(asks) == len(seconds)
    assert min(seconds) > 0


@pytest.mark.e2e
@pytest.mark.long
def test_a_small_calibration(capsys):
    """Both halves run, and are compared."""
    main(["--requests", "40", "--policies", "round_robin"])
    assert "round_robin" in capsys.readouterr().out
