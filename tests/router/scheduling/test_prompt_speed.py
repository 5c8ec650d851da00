"""How fast nodes read, of which caches must not tell tales."""

from __future__ import annotations

import pytest

from router.scheduling.prompt_speed import PromptSpeeds


@pytest.fixture
def speeds():
    return PromptSpeeds()


def test_nothing_is_known_at_first(speeds):
    """The score has to do."""
    assert speeds.speed("n", "m") is None


def test_a_reply_tells(speeds):
    """One is enough to begin with, and a slower node is found out."""
    speeds.learn("n", "m", 1000, 0.5)
    assert speeds.speed("n", "m") == 2000
    for _ in range(60):
        speeds.learn("n", "m", 1000, 2.0)
    assert speeds.speed("n", "m") == pytest.approx(500, rel=0.05)


def test_a_prompt_from_the_cache_is_not_believed(speeds):
    """Ollama counts its tokens, and not the time that they did not take."""
    speeds.learn("n", "m", 1000, 0.5)
    for _ in range(5):
        speeds.learn("n", "m", 3500, 0.004)
    assert speeds.speed("n", "m") < 3000


def test_the_first_prompt_may_have_been_cached(speeds):
    """Slower ones that follow are believed at once."""
    speeds.learn("n", "m", 3500, 0.004)
    for _ in range(20):
        speeds.learn("n", "m", 1000, 0.5)
    assert speeds.speed("n", "m") == pytest.approx(2000, rel=0.5)


@pytest.mark.parametrize(("tokens", "seconds"), [(8, 0.1), (1000, 0.0)])
def test_what_measures_the_clock_is_left_out(speeds, tokens, seconds):
    """Short prompts, and replies that do not tell."""
    speeds.learn("n", "m", tokens, seconds)
    assert speeds.speed("n", "m") is None


def test_a_thousand_nodes_with_a_hundred_models_fit(speeds):
    """What was learned of a large fleet is not forgotten while it is used."""
    for node in range(1000):
        for model in range(100):
            speeds.learn(f"n{node}", f"m{model}", 1000, 0.5)
    assert speeds.speed("n0", "m0") == 2000
