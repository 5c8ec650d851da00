"""What one node's replies say of k streams at once."""

from __future__ import annotations

import pytest

from router.dispatch.curve import Curve


def taught(totals: dict[int, float], replies: int = 30) -> Curve:
    curve = Curve()
    for streams, total in totals.items():
        for n in range(replies):
            wobble = 1 + (0.1 if n % 2 else -0.1)
            curve.learn(streams, 100 * total / streams * wobble, now=0.0)
    return curve


@pytest.mark.parametrize(
    ("totals", "ceiling", "best"),
    [
        ({}, 4, 4),
        ({4: 1.24}, 4, 4),
        ({1: 1, 2: 1.21, 3: 1.54, 4: 1.24}, 4, 3),
        ({1: 1, 2: 1.21, 3: 1.54}, 4, 4),
        ({1: 1, 2: 1.27, 3: 0.9, 4: 1.26}, 4, 2),
        ({1: 1, 2: 1, 3: 1, 4: 1}, 4, 4),
        ({1: 1, 2: 0.7}, 2, 1),
        ({1: 1, 2: 1.16, 4: 1.69, 8: 1.34, 16: 2.98}, 16, 16),
        ({2: 1.21, 8: 0.8}, 8, 7),
        ({1: 1, 2: 1.21, 3: 1.54, 4: 1.24}, 3, 3),
    ],
    ids=[
        "nothing known",
        "one k known",
        "measured, dip at four",
        "the dip not seen yet",
        "dip and back: fewer are as good",
        "flat",
        "two are worse than one",
        "a leap beyond a dip",
        "unknown between: one less",
        "dip above the ceiling",
    ],
)
def test_best(totals, ceiling, best):
    """The cap is the k from which one more is proved to lower the total."""
    assert best == taught(totals).best(ceiling)


def test_too_few_replies_prove_nothing():
    """Five replies at a k are no evidence, seven clear ones are."""
    assert taught({1: 1, 2: 0.4}, replies=5).best(2) == 2
    assert taught({1: 1, 2: 0.4}, replies=7).best(2) == 1


def test_evidence_fades():
    """What was learned hours ago no longer holds where it may be tried."""
    curve = taught({1: 1, 2: 0.7})
    assert (1, 2) == (curve.best(2, now=600.0), curve.best(2, now=6 * 3600.0))
    assert curve.best(2) == 1


def test_speed_of_what_was_never_seen():
    """One stream's speed stands in, shared as a real Ollama shares it."""
    curve = taught({1: 1})
    assert curve.speed(1) == pytest.approx(100, rel=0.02)
    assert curve.speed(2) == pytest.approx(60, rel=0.02)
    assert Curve().speed(1) is None


def test_one_freak_reply_changes_little():
    """A reply at a tenth of the speed neither caps nor sinks what is known."""
    curve = taught({1: 1, 2: 1.5})
    assert curve.learn(2, 7.5, now=0.0) == pytest.approx(0.1, abs=0.02)
    assert curve.points[2].mean == pytest.approx(75, rel=0.03)
    assert curve.best(2) == 2


@pytest.mark.parametrize(
    ("known", "cap", "next_look"),
    [({4: 1}, 4, 3), ({4: 1, 3: 1}, 4, 2), ({2: 1}, 2, 1), ({1: 1}, 1, None)],
    ids=["one less", "two less", "down to one", "nothing below one"],
)
def test_untried_below(known, cap, next_look):
    """A look goes one step at a time, and not below half."""
    assert next_look == taught(known).untried_below(cap)
