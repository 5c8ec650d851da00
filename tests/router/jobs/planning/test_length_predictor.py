"""How long answers will be: the mean, and only what proved to be nearer."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.jobs.planning.length_predictor import (
    FIRST_GUESS,
    Dispersion,
    LengthPredictor,
)
from tests.router.jobs.fleet import MODEL, item


def test_first_guess():
    """With nothing seen, a guess; never more than the request allows."""
    lengths = LengthPredictor()

    assert lengths.predict(MODEL, 1000) == FIRST_GUESS
    assert lengths.predict(MODEL, 1000, 20) == 20
    assert lengths.predict(MODEL, 0, 0) == FIRST_GUESS
    assert lengths.expected(item(1, weight=70)) == 70


def test_mean_of_the_job():
    """A few answers of a job say more than any guess."""
    lengths = LengthPredictor()
    for number in range(30):
        lengths.learn(item(number, weight=256), 600)

    assert lengths.expected(item(99, weight=256)) == pytest.approx(600, rel=0.1)
    assert lengths.predict(MODEL, 1000) == pytest.approx(600, rel=0.1)
    assert lengths.scale(MODEL) == pytest.approx(600 / 256, rel=0.15)


def test_weight_is_believed_once_it_proved_itself():
    """Limits that answers use up tell them apart; before the proof they do not."""
    lengths = LengthPredictor()
    for number in range(60):
        weight = 1000.0 if number % 2 else 100.0
        lengths.learn(item(number, weight=weight), round(weight * 0.8))

    assert lengths.expected(item(98, weight=100)) == pytest.approx(80, rel=0.2)
    assert lengths.expected(item(99, weight=1000)) == pytest.approx(800, rel=0.2)


def test_weight_that_says_nothing_is_not_believed():
    """Limits far above every answer must not make one item look like ten."""
    rng = random.Random(1)
    lengths = LengthPredictor()
    for number in range(200):
        lengths.learn(
            item(number, weight=rng.choice([100, 4000])), rng.randint(50, 150)
        )

    assert lengths.expected(item(998, weight=100)) == pytest.approx(100, rel=0.15)
    assert lengths.expected(item(999, weight=4000)) == pytest.approx(100, rel=0.15)


@pytest.mark.parametrize("tells", [True, False], ids=["it tells", "it does not"])
def test_size_of_the_prompt(tells):
    """A translation is as long as its text; ShareGPT's answers are not."""
    rng = random.Random(2)
    lengths = LengthPredictor()
    for number in range(300):
        prompt = rng.choice([60, 1500])
        tokens = prompt if tells else rng.randint(300, 500)
        lengths.learn(item(number, weight=256, prompt=prompt), tokens)
    short, long = (lengths.expected(item(n, weight=256, prompt=n)) for n in (60, 1500))

    if tells:
        assert short < 120  # the mean is 780, and still counts a little
        assert long == pytest.approx(1500, rel=0.2)
        assert lengths.predict(MODEL, 60 * 4) < lengths.predict(MODEL, 1500 * 4)
    else:
        assert short == pytest.approx(long, rel=0.01)


def test_jobs_are_kept_apart():
    """One job's essays say nothing of another's yes and no."""
    lengths = LengthPredictor()
    for number in range(30):
        lengths.learn(item(number, weight=256), 900)

    assert lengths.expected(replace(item(1, weight=20), job="other")) == 20


def test_remaining_of_even_lengths():
    """Of answers that are even from 0 to 1000, half way there are 250 to come."""
    rng = random.Random(3)
    lengths = LengthPredictor()
    for number in range(3000):
        lengths.learn(item(number, weight=256), rng.randint(1, 1000))

    assert lengths.remaining(item(1), 0) == pytest.approx(500, rel=0.1)
    assert lengths.remaining(item(1), 500) == pytest.approx(250, rel=0.25)


@given(st.lists(st.floats(1e-3, 1e3), max_size=50), st.floats(0, 1e4))
def test_something_is_always_to_come(ratios, ratio):
    """However long an answer is already, it may go on: never zero, never nothing."""
    spread = Dispersion()
    for each in ratios:
        spread.add(each)

    assert spread.beyond(ratio) > 0


@given(st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 10_000)), max_size=40))
def test_state_survives_a_restart(seen):
    """What was learned of a model is the same after JSON and back."""
    lengths = LengthPredictor()
    for number, (prompt, tokens) in enumerate(seen):
        lengths.learn(item(number, weight=256, prompt=prompt), tokens)
    again = LengthPredictor()
    again.restore(json.loads(json.dumps(lengths.state())))

    assert lengths.state() == again.state()
    assert lengths.predict(MODEL, 4000) == again.predict(MODEL, 4000)


@pytest.mark.parametrize(
    "state",
    [{MODEL: {}}, {MODEL: {"count": 1, "tokens": 2, "sizes": 3, "trial": [0, 0, 0]}}],
    ids=["nothing in it", "sizes no mapping"],
)
def test_broken_state_is_refused(state):
    """The caller hears of it, and what was known stays."""
    lengths = LengthPredictor()
    lengths.learn(item(1), 900)
    known = lengths.state()
    with pytest.raises((KeyError, TypeError)):
        lengths.restore(state)

    assert lengths.state() == known


def test_memory_is_bounded():
    """Jobs and models that nobody asks for any more are forgotten."""
    lengths = LengthPredictor()
    for number in range(3000):
        lengths.learn(item(1, model=f"m{number}"), 10)

    assert len(lengths.state()) <= 1024
