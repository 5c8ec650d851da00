"""Who keeps sums over the fleet is told which nodes changed."""

from __future__ import annotations

from router.capacity.changes import Changes


def test_what_changed_since():
    """In order, from where one left off."""
    changes = Changes()
    changes.add("a")
    position = changes.position
    changes.add("b")
    changes.add("a")
    assert ["b", "a"] == changes.since(position)
    assert [] == changes.since(changes.position)


def test_whoever_was_away_for_long_looks_at_everything():
    """Old changes are forgotten, and that is said."""
    changes = Changes()
    position = changes.position
    for _ in range(5000):
        changes.add("a")
    assert changes.since(position) is None
    assert changes.since(changes.position - 10) == ["a"] * 10


def test_anything_may_have_changed():
    """A new inventory changes every node."""
    changes = Changes()
    changes.add("a")
    position = changes.position
    changes.add_all()
    assert changes.since(position) is None
    assert [] == changes.since(changes.position)


def test_who_never_looked_looks_at_everything():
    """A position before the first."""
    assert Changes().since(-1) is None
