"""What one node's replies say of k streams at once."""

from __future__ import annotations

import pytest

from router.capacity.throughput import ThroughputCurve, expected_share, expected_total


def taught(totals: dict[int, float], replies: int = 30) -> ThroughputCurve:
    """Replies at each k in turn, of a node that makes 100 tokens/s alone."""
    curve = ThroughputCurve()
    for streams, total in totals.items():
        for n in range(replies):
            wobble = 1.1 if n % 2 else 0.9
            curve.learn(streams, 100 * total / streams * wobble, now=0.0)
    return curve


def test_short_replies_tell_little():
    """Replies of three tokens, made while a prompt was read, change next to nothing."""
    curve = taught({4: 3.0})
    for _ in range(10):
        curve.learn(4, 10.0, now=0.0, telling=3 / 32)
    assert curve.speed(4) == pytest.approx(75, rel=0.3)
    assert curve.points[4].mean == pytest.approx(75, rel=0.05)


def test_a_few_tokens_are_no_speed():
    """A reply of three tokens shows the moment, not the node."""
    curve = ThroughputCurve()
    curve.learn(4, 1.0, now=0.0, telling=3 / 32)
    assert curve.speed(4) is None


def test_a_reply_in_doubt_teaches_no_k():
    """It moves the pace, which every k shares."""
    curve = taught({4: 3.0, 2: 1.79})
    before = curve.totals()
    curve.keep_pace(4, 37.5, now=0.0, telling=1.0)
    curve.keep_pace(3, 37.5, now=0.0, telling=1.0)  # nothing known to compare it with
    assert 3 not in curve.points
    assert curve.totals()[2] == pytest.approx(0.8 * before[2], rel=0.05)


def test_speed_of_what_was_never_seen():
    """One stream's speed stands in, shared as a real Ollama shares it."""
    curve = taught({1: 1})
    assert curve.speed(1) == pytest.approx(100, rel=0.02)
    assert curve.speed(2) == pytest.approx(57, rel=0.02)
    assert curve.speed(4) == pytest.approx(47.5, rel=0.02)
    assert ThroughputCurve().speed(1) is None


def test_what_the_fleet_showed_stands_in():
    """Of a k that was seen once, the fleet's S(k) counts more than the one reply."""
    curve = ThroughputCurve(
        ratio=lambda k, known: {4: 3.0, 1: 1.0}[k] / {4: 3.0, 1: 1.0}[known]
    )
    for _ in range(20):
        curve.learn(1, 100.0, now=0.0)
    assert curve.speed(4) == pytest.approx(75)
    curve.learn(4, 30.0, now=0.0)
    assert curve.speed(4) == pytest.approx((30 + 2 * 75) / 3)
    for _ in range(40):
        curve.learn(4, 30.0, now=0.0)
    assert curve.speed(4) == pytest.approx(30, rel=0.15)


def test_one_freak_reply_changes_little():
    """A reply at a tenth of the speed does not sink what is known."""
    curve = taught({1: 1, 2: 1.5})
    curve.learn(2, 7.5, now=0.0)
    assert curve.points[2].mean == pytest.approx(75, rel=0.03)


def test_a_slower_node_is_slower_at_every_k():
    """What slows one k is taken to slow the others until they show it."""
    curve = taught({1: 1, 2: 1.5})
    for _ in range(30):
        curve.learn(2, 37.5, now=0.0)
    assert curve.speed(1) == pytest.approx(50, rel=0.2)


def test_what_is_believed_at_first():
    """A real Ollama's: two streams hardly gain, four nearly double."""
    assert [1.0, 1.14, 1.9, 2.75] == [expected_total(k) for k in (1, 2, 4, 8)]
    assert expected_total(16) == pytest.approx(3.9, rel=0.01)
    assert expected_share(2) == pytest.approx(0.57)
