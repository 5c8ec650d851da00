"""What a simulated model says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.text import (
    LONGEST,
    SHORTEST,
    Limits,
    ids,
    last_number,
    natural_length,
    plan,
    tokens,
)


def say(prompt: str, limits: Limits = Limits(), natural: int = 100):  # noqa: B008  frozen
    return plan(last_number(prompt) + 1, limits, natural=natural, most=40_960)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("101 102 103", " 104 105 106"),
        ("count on from 7, please", " 8 9 10"),
        ("hello", " 1 2 3"),
        ("", " 1 2 3"),
        ("00012345678901", " 345678902 345678903 345678904"),
    ],
    ids=["numbers", "a number within", "no number", "nothing", "a huge number"],
)
def test_counts_on_after_the_last_number(prompt, text):
    """The prompt alone decides where it starts."""
    assert say(prompt, Limits(tokens=3)).text == text


@given(st.integers(0, 500), st.integers(1, 80), st.integers(1, 80))
def test_an_answer_can_be_continued_from_any_token(start, cut, rest):
    """Prompt and text so far give the rest: no gap, no repeat."""
    prompt = f"from {start}"
    whole = say(prompt, Limits(tokens=cut + rest)).text
    first = say(prompt, Limits(tokens=cut)).text
    assert first + say(prompt + first, Limits(tokens=rest)).text == whole


@given(st.text(max_size=50), st.integers(1, 80))
def test_each_piece_counts_as_one_token_of_a_prompt(prompt, count):
    """So that what is left of a limit can be computed exactly."""
    text = say(prompt, Limits(tokens=count)).text
    assert tokens(prompt + text) - tokens(prompt) == count
    assert len(ids(text)) == count


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_without_a_limit_it_ends_by_itself(limit):
    """Zero and less mean no limit, as in Ollama."""
    answer = say("5", Limits(tokens=limit), natural=77)
    assert (answer.tokens, answer.reason) == (77, "stop")


def test_a_limit_beyond_all_contexts_is_cut():
    """Ollama stops an answer at ten context lengths."""
    assert say("5", Limits(tokens=10**12)).tokens == 40_960


@pytest.mark.parametrize(
    ("stop", "pieces", "generated"),
    [
        ((" 8",), [" 6", " 7"], 3),
        (("8 9",), [" 6", " 7", " "], 4),
        (("9", "7"), [" 6", " "], 2),
        ((" 6",), [], 1),
    ],
    ids=["a whole token", "over two tokens", "the earlier of two", "at once"],
)
def test_a_stop_word_ends_the_answer_before_it(stop, pieces, generated):
    """The word is generated and counted, and never shown."""
    answer = say("5", Limits(tokens=20, stop=stop))
    assert [answer.piece(index) for index in range(answer.pieces)] == pieces
    assert (answer.tokens, answer.reason) == (generated, "stop")


@pytest.mark.parametrize("stop", [("x",), ("",), ("26",)])
def test_a_stop_word_that_never_comes_changes_nothing(stop):
    """Nor does an empty one."""
    answer = say("5", Limits(tokens=20, stop=stop))
    assert (answer.tokens, answer.reason) == (20, "length")


def test_generates_on_from_a_context():
    """The ids of an earlier answer say where it ended, if the prompt does not."""
    context = ids("one 5 6 7 yes")
    assert last_number("go on", context) == 7
    assert last_number("now 20", context) == 20


@given(st.text(), st.integers())
def test_natural_lengths_are_bounded_and_repeatable(prompt, seed):
    """Prompt and seed decide, within the two bounds."""
    length = natural_length(prompt, seed)
    assert SHORTEST <= length <= LONGEST
    assert natural_length(prompt, seed) == length


def test_natural_lengths_differ():
    """Prompts, and seeds, spread over the range."""
    by_prompt = {natural_length(f"prompt {n}", 0) for n in range(200)}
    by_seed = {natural_length("prompt", n) for n in range(200)}
    assert min(len(by_prompt), len(by_seed)) > 50
