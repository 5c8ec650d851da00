"""S(k) is learned over the fleet, and slots that bring nothing are left idle."""

from __future__ import annotations

import random

import pytest

from router.jobs.planning.scaling import Shape


def play(shape: Shape, totals: tuple[float, ...], replies: int, *, noise: float = 0.1):
    """Let a fleet of three show what the shape asks for, in turn."""
    rng = random.Random(5)
    nodes = {"a": 120.0, "b": 60.0, "c": 30.0}
    for number in range(replies):
        node = "abc"[number % 3]
        streams = shape.best(node, len(totals))
        speed = nodes[node] * totals[streams - 1] / streams * rng.gauss(1, noise)
        shape.learn(node, streams, 400, 400 / speed, len(totals))
    return {node: shape.best(node, len(totals)) for node in nodes}


@pytest.mark.parametrize(
    ("totals", "best"),
    [
        pytest.param((1, 1.79, 2.5, 3.0), 4, id="kernel: all of them"),
        pytest.param((1, 1.21, 1.54, 1.24), 3, id="measured: three bring more"),
        pytest.param((1, 1.14, 1.28, 1.42), 4, id="published for Ollama"),
    ],
)
def test_best_number_of_streams(totals, best):
    """After some replies every node runs the best k, but for one that may look."""
    shape = Shape()
    found = play(shape, totals, 150)

    assert best in found.values()
    assert all(k == best for node, k in found.items() if node != shape.looking)


def test_one_node_looks_for_all():
    """Never does more than one node run fewer streams for the sake of learning."""
    shape = Shape()
    for replies in range(1, 60):
        found = play(shape, (1, 1.79, 2.5, 3.0), 1)
        fewer = [node for node, k in found.items() if k < 4]
        assert len(fewer) <= 1, replies


def test_speed_at_a_k_that_the_node_never_showed():
    """What one node showed of two k holds for another that showed one."""
    shape = Shape()
    for _ in range(30):
        shape.learn("a", 4, 400, 400 / 75.0, 4)
        shape.learn("a", 3, 400, 400 / 83.0, 4)
    for _ in range(5):
        shape.learn("b", 4, 400, 400 / 37.5, 4)

    assert shape.speed("b", 3) == pytest.approx(41.5, rel=0.1)
    assert shape.speed("a", 3) == pytest.approx(83.0, rel=0.01)


def test_a_few_tokens_tell_nothing():
    """A reply of three tokens shows the moment, not the node."""
    shape = Shape()
    shape.learn("a", 4, 3, 3.0, 4)

    assert shape.knows("a")
    assert shape.speed("a", 4) is None
    assert shape.speed("b", 4) is None
