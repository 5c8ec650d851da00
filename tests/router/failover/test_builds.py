"""Which nodes have the same build, and how that is told in an error."""

from __future__ import annotations

import json

import pytest

from router.failover.builds import Builds, with_note
from tests.router.failover.stage import MODEL, Fleet


def test_one_build_needs_no_note():
    """A fleet that is all alike answers in Ollama's own words."""
    builds = Builds(Fleet("ab").published)
    assert "" == builds.note(MODEL)
    assert ("d1", "0.17.4") == builds.of("a", MODEL)
    assert frozenset("ab") == builds.nodes({("d1", "0.17.4")}, MODEL)


def test_two_builds_are_named():
    """The client's operator reads which node has which."""
    fleet = Fleet("abc", digests={"b": "sha256:0123456789abcdef"})
    assert (
        "the fleet has 2 builds of m:latest: d1 (Ollama 0.17.4) on a, c;"
        " 0123456789ab (Ollama 0.17.4) on b"
    ) == Builds(fleet.published).note(MODEL)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "no tools"}, "no tools (two)"),
        ({"error": {"message": "no tools", "code": None}}, "no tools (two)"),
        ({"type": "error", "error": {"message": "no tools"}}, "no tools (two)"),
    ],
    ids=["ollama", "openai", "anthropic"],
)
def test_with_note(body, text):
    """A note goes into the text, in each dialect."""
    error = json.loads(with_note(json.dumps(body).encode(), "two"))["error"]
    assert text == (error if isinstance(error, str) else error["message"])


def test_what_has_no_text_stays():
    """What is not an error object is passed on as it came."""
    assert b"<html>" == with_note(b"<html>", "two")
    assert b'{"x":1}' == with_note(b'{"x":1}', "two")
