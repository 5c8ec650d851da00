"""Who sends a request: what takes away the trust in this machine."""

from __future__ import annotations

import pytest

from router.web.caller import address, local

HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000"}


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost:8000", "LOCALHOST.", "[::1]:8000", "x.localhost"],
)
def test_person_at_this_machine(peer, host):
    """Every spelling of loopback, on both sides, is this machine."""
    assert local({"REMOTE_ADDR": peer, "HTTP_HOST": host})


@pytest.mark.parametrize(
    "header",
    [
        "HTTP_FORWARDED",
        "HTTP_VIA",
        "HTTP_X_FORWARDED",
        "HTTP_X_FORWARDED_FOR",
        "HTTP_X_FORWARDED_HOST",
        "HTTP_X_FORWARDED_PROTO",
        "HTTP_X_FORWARDED_SERVER",
        "HTTP_X_REAL_IP",
        "HTTP_TRUE_CLIENT_IP",
        "HTTP_CF_CONNECTING_IP",
        "HTTP_TAILSCALE_USER_LOGIN",
    ],
)
@pytest.mark.parametrize("value", ["", "127.0.0.1", "for=localhost"])
def test_header_of_a_proxy(header, value):
    """Whatever it says, and also where it is empty: a proxy passed the request on."""
    assert not local({**HERE, header: value})


@pytest.mark.parametrize(
    "more",
    [
        {"REMOTE_ADDR": "192.168.1.7"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "not an address"},
        {"HTTP_HOST": "192.168.1.5:8000"},
        {"HTTP_HOST": "ai.example.org"},
        {"HTTP_HOST": "gpu-box"},
        {"HTTP_HOST": "localhost.evil.example"},
        {"HTTP_HOST": "127.0.0.1.evil.example"},
        {"HTTP_HOST": ""},
    ],
    ids=lambda more: str(next(iter(more.items()))),
)
def test_from_elsewhere(more):
    """Another machine, a Unix socket, or a name that leads here from elsewhere."""
    assert not local({**HERE, **more})


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("::ffff:192.168.1.7", "192.168.1.7"),
        ("192.168.1.7", "192.168.1.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("", ""),
    ],
)
def test_address(peer, expected):
    """The connection's other end, IPv4 as such; no header has a say in it."""
    assert expected == address({"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": "1.1.1.1"})
