"""Sessions of pages."""

from __future__ import annotations

from router.access.sessions import SECONDS, Sessions


def test_a_session_ends():
    """By its time, and by logging out."""
    sessions = Sessions()
    token, other = sessions.open("k-1", 0.0), sessions.open("k-2", 0.0)
    found = sessions.find(token, SECONDS - 1)
    assert found is not None
    assert ("k-1", True) == (found.key, len(found.csrf) > 40)
    assert sessions.find("nonsense", 0.0) is None
    assert sessions.find(token, SECONDS) is None
    assert sessions.find(token, 0.0) is None
    sessions.close(other)
    assert sessions.find(other, 0.0) is None


def test_sessions_are_bounded():
    """The oldest makes room."""
    sessions = Sessions(most=2)
    tokens = [sessions.open("k", 0.0) for _ in range(3)]
    found = [sessions.find(each, 0.0) is not None for each in tokens]
    assert [False, True, True] == found
