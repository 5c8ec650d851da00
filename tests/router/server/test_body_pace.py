"""How slowly a body may come before its sender is let go."""

from __future__ import annotations

import pytest

from router.errors import BadRequestError
from router.server.body_pace import BodyPace


def cut_at(pieces, *, every, stall=60.0):
    """Let so many bytes come every so many seconds; return when that was too slow."""
    pace, now = BodyPace(0.0, stall), 0.0
    for size in pieces:
        if every > pace.left(now):
            return now + pace.left(now)
        now += every
        pace.take(size)
    return None


@pytest.mark.parametrize(
    ("pieces", "every", "cut"),
    [
        ([125_000] * 100, 1.0, None),
        ([6_000] * 2_000, 10.0, None),
        ([40] * 10, 4.0, None),
        ([1] * 1_000, 1.0, 60.1),
        ([100_000, 100], 61.0, 60.0),
        ([10**8, 1, 1], 59.0, None),
    ],
    ids=[
        "12 MB at 1 Mbit/s",
        "a piece every ten seconds for hours",
        "a short body over 40 s",
        "a byte a second",
        "one that stands still",
        "what came fast buys time, but no long stop",
    ],
)
def test_a_slow_sender_that_goes_on_is_served(pieces, every, cut):
    """One that stands still, or sends next to nothing, is not."""
    assert cut_at(pieces, every=every) == (cut and pytest.approx(cut, abs=0.1))


def test_chunks_of_next_to_nothing_have_an_end():
    """Six bytes each for one of a body; larger ones may be as many as they like."""
    pace = BodyPace(0.0, 60.0)
    for _ in range(10_000):
        pace.take(1006)
        pace.unwrap(1000)
    tiny = BodyPace(0.0, 60.0)
    for _ in range(16):
        tiny.take(6144)
        tiny.unwrap(1024)
    tiny.take(6144)
    with pytest.raises(BadRequestError, match="the body's chunks are too small"):
        tiny.unwrap(1024)


def test_what_was_unwrapped_ahead_counts():
    """A chunk of a mebibyte may be there whole before its first bytes are read."""
    pace = BodyPace(0.0, 60.0)
    pace.take(1024 * 1024 + 8)
    pace.unwrap(16_384, ahead=1024 * 1024 - 16_384)
