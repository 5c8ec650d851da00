"""What one node's replies say of k streams at once."""

from __future__ import annotations

import pytest

from router.capacity.throughput import Curve


def taught(totals: dict[int, float], replies: int = 30, visits: int = 2) -> Curve:
    """Replies at each k, in so many visits; the node comes to each k in turn."""
    curve = Curve()
    for visit in range(visits):
        for streams, total in totals.items():
            for n in range(visit, replies, visits):
                wobble = 1 + (0.1 if (n + visit) // visits % 2 else -0.1)
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


def test_one_visit_proves_nothing():
    """Replies in a row share the node's state: the k is judged by a second visit."""
    once = taught({4: 1.24, 3: 1.54}, visits=1)
    assert (4, True) == (once.best(4), once.promising(3, 4))
    assert once.untried_below(4) == 3, "and so it is looked at again"
    twice = taught({4: 1.24, 3: 1.54})
    assert (3, False) == (twice.best(4), twice.promising(3, 4))


def test_a_bad_moment_is_corrected_by_later_visits():
    """Fewer streams, seen in a good minute, do not look better for ever."""
    curve = taught({4: 3.0, 2: 4.0})
    assert curve.best(4) < 4
    for _ in range(4):
        for streams, total in {4: 3.0, 2: 1.79}.items():
            for _ in range(12):
                curve.learn(streams, 100 * total / streams, now=0.0)
    assert curve.best(4) == 4


def test_short_replies_tell_little():
    """Replies of three tokens, made while a prompt was read, change next to nothing."""
    curve = taught({4: 3.0})
    for _ in range(10):
        curve.learn(4, 10.0, now=0.0, telling=3 / 32)
    assert curve.speed(4) == pytest.approx(75, rel=0.3)
    assert curve.points[4].mean == pytest.approx(75, rel=0.05)


def test_a_reply_in_doubt_teaches_no_k():
    """It moves the pace, which every k shares, and is no visit."""
    curve = taught({4: 3.0, 2: 1.79})
    before = curve.totals()
    assert curve.keep_pace(4, 37.5, 1.0) == pytest.approx(0.5, rel=0.05)
    assert curve.keep_pace(3, 37.5, 1.0) is None, "nothing known to compare it with"
    assert 3 not in curve.points
    assert curve.totals()[2] == pytest.approx(0.8 * before[2], rel=0.05)


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
