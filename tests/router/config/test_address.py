"""Addresses are judged by shape alone."""

from __future__ import annotations

import pytest

from router.config import address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rig-1.lan", ("rig-1.lan", None)),
        ("192.0.2.1:9100", ("192.0.2.1", 9100)),
        ("[::1]:65535", ("[::1]", 65535)),
    ],
    ids=["name", "address with port", "IPv6 with port"],
)
def test_splits(text, parts):
    """Names, addresses and bracketed IPv6, with or without a port."""
    assert address.split(text) == parts


@pytest.mark.parametrize(
    "text", ["", ":80", "a b", "a/b", "::1", "a:0", "a:65536", "a:x", "-a", "a\n"]
)
def test_refuses_what_is_no_address(text):
    """Anything else says what it must be."""
    with pytest.raises(ValueError, match=r"^must "):
        address.split(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://rig:11434/", "http://rig:11434"),
        ("https://prometheus.example", "https://prometheus.example"),
    ],
    ids=["slash at the end", "without a port"],
)
def test_base_url_loses_its_slash(text, url):
    """A base URL is kept without a slash at its end."""
    assert address.base_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "rig:1", "ftp://rig", "http://", "http://a/b", "http://a?b", "http://u@a"],
)
def test_refuses_what_is_no_base_url(text):
    """No path, query, user or other scheme."""
    with pytest.raises(ValueError, match=r"^must "):
        address.base_url(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a/prometheus/", "http://a/prometheus"),
        ("https://a:9/x/y-z", "https://a:9/x/y-z"),
    ],
)
def test_a_service_may_have_a_path(text, url):
    """Behind a reverse proxy it has one."""
    assert address.base_url(text, path=True) == url


@pytest.mark.parametrize("text", ["http://a/b c", "http://a/b?c", "http://a/ä"])
def test_a_path_is_plain(text):
    """What no address is made of is refused."""
    with pytest.raises(ValueError, match=r"^must "):
        address.base_url(text, path=True)
