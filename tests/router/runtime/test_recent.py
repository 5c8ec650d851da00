"""A mapping that forgets what was set longest ago."""

from __future__ import annotations

from router.runtime.recent import Recent


def test_what_was_set_longest_ago_goes():
    recent: Recent[str, int] = Recent(2)
    recent["a"] = 1
    recent["b"] = 2
    recent["a"] = 3  # set again: now the newest
    recent["c"] = 4
    assert list(recent.items()) == [("a", 3), ("c", 4)]
