"""What is hidden, and what must stay readable."""

from __future__ import annotations

import pytest

from router.logs.redaction import scrub, secret_name


@pytest.mark.parametrize(
    "name",
    ["token", "admin_token", "Authorization", "X-Api-Key", "db.password", "cookie"],
)
def test_names_of_secrets(name):
    """A field that ends in such a word holds a secret."""
    assert secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokens", "token_file", "tokens_total", "node", "key"]
)
def test_other_names(name):
    """Counts of tokens and paths of files are no secrets."""
    assert not secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://me:pw@rig:1/x", "GET http://***@rig:1/x"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("basic dTpw and more", "basic *** and more"),
        ("a plain line", "a plain line"),
        ("http://rig:1/a@b", "http://rig:1/a@b"),
    ],
    ids=["URL", "bearer", "basic", "plain", "at in the path"],
)
def test_scrubs_credentials_only(text, shown):
    """Passwords in URLs and credentials go, everything else stays."""
    assert scrub(text) == shown
