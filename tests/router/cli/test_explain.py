"""What `inferops explain` says of a candidate."""

from __future__ import annotations

import pytest

from router.cli.nodes import _candidate

CANDIDATE = {
    "node": "a",
    "score": 0.5,
    "in_flight": 1,
    "expected_seconds": 2.1,
    "expected": {"behind": 0.0, "load": 0.0, "prefill": 0.1, "decode": 2.0},
    "measured": True,
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "prefill 0.1 + decode 2.0"),
        (
            {"saved_seconds": 0.8},
            "prefill 0.1 (0.8 saved by a prompt read there) + decode 2.0",
        ),
    ],
    ids=["all of it is read", "some was read before"],
)
def test_what_the_time_consists_of(more, said):
    """The parts that are none are left out."""
    shown = _candidate({**CANDIDATE, "saved_seconds": 0.0, **more})
    assert f"expected 2.1 s = {said}, 1 in flight, score 0.5" == shown
