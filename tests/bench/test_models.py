"""The benchmark of several models."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.models import BLIND, LOADED, MODELS, OURS, main, run, zipf
from bench.virtual.workload import MIXED_8
from simulator.virtual.node import Scaling
from simulator.virtual.traffic import Traffic

pytestmark = pytest.mark.long


def test_the_second_is_asked_for_half_as_often():
    """Zipf's law; a seed is one draw."""
    asks = zipf(Traffic.of("chat").draw(1.0, 4000, 1), 1)
    counts = Counter(ask.model for ask in asks)
    assert [*MODELS] == [model for model, _ in counts.most_common()]
    assert counts[MODELS[1]] == pytest.approx(counts[MODELS[0]] / 2, rel=0.15)
    assert asks == zipf(asks, 1)


def test_models_are_kept_where_they_are_used():
    """More is good than by either simple policy, with few loads."""
    traffic = Traffic.of("chat")
    rate = 0.7 * traffic.saturation(MIXED_8, Scaling.KERNEL)
    asks = zipf(traffic.draw(rate, 2000, 7), 7)
    ours, loaded, blind = (run(p, Scaling.KERNEL, asks) for p in (OURS, LOADED, BLIND))
    assert ours.figures.good > loaded.figures.good > blind.figures.good
    assert ours.loads_per_minute < 2 < blind.loads_per_minute


def test_prints_a_row_for_each_policy(capsys):
    """Median and range of the seeds."""
    main(["--requests", "120", "--seeds", "2", "--loads", "0.5"])
    printed = capsys.readouterr().out
    assert all(policy in printed for policy in (OURS, LOADED, BLIND))
