"""Scores: anchors, weights, what missing means."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.control.scoring import normalise, score
from router.model import Missing, Part, Signal

TFLOPS = Signal("tflops", "q", 2, worst=0, best=100)
HEAT = Signal("heat", "q", 1, worst=90, best=40)
STRICT = Signal("strict", "q", 1, worst=0, best=1, missing=Missing.WORST)


@pytest.mark.parametrize(
    ("signal", "reading", "expected"),
    [
        pytest.param(TFLOPS, 0, 0, id="at worst"),
        pytest.param(TFLOPS, 100, 1, id="at best"),
        pytest.param(TFLOPS, 25, 0.25, id="between"),
        pytest.param(TFLOPS, 250, 1, id="beyond best"),
        pytest.param(TFLOPS, -5, 0, id="beyond worst"),
        pytest.param(HEAT, 40, 1, id="lower is better"),
        pytest.param(HEAT, 95, 0, id="lower is better, beyond worst"),
    ],
)
def test_a_reading_is_put_between_its_anchors(signal, reading, expected):
    """Anchors are absolute, and clamp."""
    assert normalise(signal, reading) == expected


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param({"tflops": 25, "heat": 40}, 0.5, id="mean by weight"),
        pytest.param({"tflops": 25}, 0.25, id="neutral is left out"),
        pytest.param({"tflops": 25, "heat": math.nan}, 0.25, id="nan is missing"),
        pytest.param({"tflops": 25, "heat": -math.inf}, 0.25, id="infinite is missing"),
        pytest.param({}, 0.5, id="nothing known"),
    ],
)
def test_a_score_is_the_weighted_mean_of_what_is_known(readings, expected):
    """What has no reading takes no part."""
    assert score([TFLOPS, HEAT], readings).value == pytest.approx(expected)


def test_missing_counts_worst_where_declared():
    """A signal may demand a reading."""
    found = score([TFLOPS, STRICT], {"tflops": 100})
    assert found.value == pytest.approx(2 / 3)
    assert found.parts == (Part("tflops", 100, 1, 2), Part("strict", None, 0, 1))


def test_a_signal_that_was_not_answered_blames_no_node():
    """A failed query says nothing of any node, even where missing is worst."""
    found = score([TFLOPS, STRICT], {"tflops": 100}, unasked=["strict"])
    assert found.value == 1
    assert found.parts[1] == Part("strict", None, None, 1)


@pytest.mark.parametrize(("trust", "expected"), [(1, 1), (0.5, 0.75), (0, 0.5)])
def test_trust_draws_a_reading_towards_neutral(trust, expected):
    """An old reading says less and less."""
    found = score([TFLOPS], {"tflops": 100}, trust={"tflops": trust})
    assert found.value == pytest.approx(expected)


@given(
    readings=st.dictionaries(st.sampled_from(["tflops", "heat", "strict"]), st.floats())
)
def test_a_score_is_always_between_zero_and_one(readings):
    """Whatever Prometheus answers."""
    assert 0 <= score([TFLOPS, HEAT, STRICT], readings).value <= 1
