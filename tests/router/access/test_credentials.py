"""Where a request may carry its key."""

from __future__ import annotations

import base64

import pytest

from router.access.credentials import credentials, split_path


def basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ()),
        ({"HTTP_AUTHORIZATION": "Bearer one"}, ("one",)),
        ({"HTTP_AUTHORIZATION": "bearer  one "}, ("one",)),
        ({"HTTP_X_API_KEY": "one"}, ("one",)),
        (
            {"HTTP_AUTHORIZATION": "Bearer one", "HTTP_X_API_KEY": "two"},
            ("one", "two"),
        ),
        ({"HTTP_AUTHORIZATION": basic("me:one")}, ("one",)),
        ({"HTTP_AUTHORIZATION": basic("me:one:two")}, ("one:two",)),
        ({"HTTP_AUTHORIZATION": basic("one:")}, ("one",)),
        ({"HTTP_AUTHORIZATION": basic(":")}, ()),
        ({"HTTP_AUTHORIZATION": "Basic %%%"}, ()),
        ({"HTTP_AUTHORIZATION": "Basic /w=="}, ()),
        ({"HTTP_AUTHORIZATION": "Digest one"}, ()),
        ({"HTTP_AUTHORIZATION": "one"}, ()),
        ({"HTTP_AUTHORIZATION": "Bearer "}, ()),
    ],
)
def test_credentials(environ, expected):
    """As OpenAI's, Anthropic's and plain HTTP clients send them."""
    assert expected == credentials(environ)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/key/sk-inferops-x/api/chat", ("sk-inferops-x", "/api/chat")),
        ("/key/sk-inferops-x/", ("sk-inferops-x", "/")),
        ("/key/sk-inferops-x", ("sk-inferops-x", "/")),
    ],
)
def test_a_key_in_the_path(path, expected):
    """As the `ollama` command sends it, which has no header for one."""
    assert expected == split_path(path)
