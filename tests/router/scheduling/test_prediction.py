"""Lengths of prompts and answers, learned from replies."""

from __future__ import annotations

import random

import pytest

from router.model import Timings
from router.scheduling.prediction import AnswerPrediction
from router.scheduling.request import FIRST_GUESS, Traits, Work

MODEL = "m:latest"


def told(prediction, size, answer, *, shape="", prompt=None, model=MODEL):
    traits = Traits(size, shape=shape)
    tokens = size // 4 if prompt is None else prompt
    work = prediction.work(model, traits)
    prediction.learn(model, traits, work, Timings(tokens, answer))
    return work


def test_the_first_guess():
    """Nothing is known: four bytes a token, and an answer of middling length."""
    work = AnswerPrediction().work(MODEL, Traits(4000))
    assert (1000.0, FIRST_GUESS) == (work.prompt, work.tokens)


def test_a_byte_is_learned_in_tokens():
    """Another language has other tokens; no tokenizer is run."""
    prediction = AnswerPrediction()
    for _ in range(40):
        told(prediction, 3000, 100, prompt=1500)
    assert prediction.work(MODEL, Traits(6000)).prompt == pytest.approx(3000, rel=0.01)


def test_a_short_prompt_teaches_no_ratio():
    """It is mostly its template."""
    prediction = AnswerPrediction()
    told(prediction, 5, 100, prompt=60)
    assert prediction.work(MODEL, Traits(4000)).prompt == 1000


def test_the_mean_and_the_tail_are_learned():
    """Of answers that are 50 or 950 long, the squares tell what the mean hides."""
    prediction, rng = AnswerPrediction(), random.Random(1)
    for _ in range(300):
        told(prediction, 4000, rng.choice((50, 950)))
    work = prediction.work(MODEL, Traits(4000))
    assert work.tokens == pytest.approx(500, rel=0.2)
    assert work.squares == pytest.approx((50**2 + 950**2) / 2, rel=0.2)


def test_prompts_of_another_size_have_other_answers():
    """What goes with the size of the prompt is found out."""
    prediction = AnswerPrediction()
    for _ in range(60):
        told(prediction, 400, 30)
        told(prediction, 8000, 700)
    assert prediction.work(MODEL, Traits(400)).tokens == pytest.approx(30, rel=0.6)
    assert prediction.work(MODEL, Traits(8000)).tokens == pytest.approx(700, rel=0.2)


def test_a_shape_has_its_own_answers():
    """Requests with tools are told from those without."""
    prediction = AnswerPrediction()
    for _ in range(60):
        told(prediction, 4000, 500)
        told(prediction, 4000, 20, shape="tools")
    plain, tools = Traits(4000), Traits(4000, shape="tools")
    assert prediction.work(MODEL, tools).tokens < 60
    assert prediction.work(MODEL, plain).tokens > 400


def test_a_limit_bounds_what_is_expected():
    """No answer is longer than its request allows."""
    work = AnswerPrediction().work(MODEL, Traits(4000, most_tokens=10))
    assert (10, 100) == (work.tokens, work.squares)


def test_a_change_is_found_out():
    """The last hundred answers count, not all there ever were."""
    prediction = AnswerPrediction()
    for answer in [100] * 500 + [600] * 200:
        told(prediction, 4000, answer)
    assert prediction.work(MODEL, Traits(4000)).tokens == pytest.approx(600, rel=0.2)


def test_accuracy_is_kept():
    """How far off predictions were; the mean of all would miss each by 335 tokens."""
    prediction = AnswerPrediction()
    for _ in range(100):
        told(prediction, 400, 30)
        told(prediction, 8000, 700)
    kept = prediction.accuracy.by_model[MODEL]
    assert (200, 100 * 730) == (kept.replies, kept.actual)
    assert kept.missed < 200 * 335 / 2


def test_what_is_kept_is_bounded():
    """A client that names models at will does not fill the memory."""
    prediction = AnswerPrediction()
    for number in range(20_000):
        told(prediction, 4000, 10, model=f"m{number}:latest")
    assert len(prediction._cells) <= 16_384
    assert len(prediction._ratios) <= 4096
    assert len(prediction.accuracy.by_model) <= 4096


def test_nothing_is_learned_of_an_empty_answer():
    """A load or an embedding has no answer to be learned from."""
    prediction = AnswerPrediction()
    told(prediction, 4000, 0)
    assert prediction.work(MODEL, Traits(4000)) == Work(1000.0)
