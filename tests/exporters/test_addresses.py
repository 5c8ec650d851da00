"""Addresses: what is taken, what is refused, and that one place has one name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.addresses import Listen, backend_url, listen, ollama_url
from exporters.errors import SettingError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("http://node:11434", "http://node:11434", id="as it is"),
        pytest.param("http://node:11434/", "http://node:11434", id="trailing slash"),
        pytest.param("HTTP://Node:11434", "http://node:11434", id="upper case"),
        pytest.param("http://node", "http://node:80", id="http's port"),
        pytest.param("https://node", "https://node:443", id="https' port"),
        pytest.param("http://192.168.1.20:1", "http://192.168.1.20:1", id="IPv4"),
        pytest.param("http://[0:0::1]:1", "http://[::1]:1", id="IPv6"),
        pytest.param("http://my_node.lan:1", "http://my_node.lan:1", id="underscore"),
    ],
)
def test_a_backend_has_one_name(text, expected) -> None:
    """Different writings of one address become one text."""
    assert backend_url(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "must begin with http:// or https://, got ''", id="empty"),
        pytest.param(
            "file:///etc/passwd",
            "must begin with http:// or https://, got 'file:///etc/passwd'",
            id="file",
        ),
        pytest.param(
            "node:11434",
            "must begin with http:// or https://, got 'node:11434'",
            id="no scheme",
        ),
        pytest.param(
            "http://node/api",
            "must have no path, query or fragment, got 'http://node/api'",
            id="path",
        ),
        pytest.param(
            "http://node?x",
            "must have no path, query or fragment, got 'http://node?x'",
            id="query",
        ),
        pytest.param(
            "http://node#x",
            "must have no path, query or fragment, got 'http://node#x'",
            id="fragment",
        ),
        pytest.param(
            "http://me:pw@node", "must not hold credentials", id="credentials unsaid"
        ),
        pytest.param("http://", "must name a host, got 'http://'", id="no host"),
        pytest.param(
            "http://-x", "must name a host, got 'http://-x'", id="not a host's name"
        ),
        pytest.param("http://a b", "must be plain ASCII, got 'http://a b'", id="space"),
        pytest.param(
            "http://a\n", "must be plain ASCII, got 'http://a\\n'", id="line end"
        ),
        pytest.param(
            "http://nöde", "must be plain ASCII, got 'http://nöde'", id="not ASCII"
        ),
        pytest.param(
            "http://node:0", "port must be 1 to 65535, got 'http://node:0'", id="port 0"
        ),
        pytest.param(
            "http://node:65536", "Port out of range 0-65535", id="port too big"
        ),
    ],
)
def test_what_is_no_backend_is_refused(text, message) -> None:
    """The message says what is wrong with it, and never repeats a password."""
    with pytest.raises(ValueError) as caught:
        backend_url(text)
    assert str(caught.value) == message


@given(st.text(max_size=40) | st.from_regex(r"http://[!-~]{1,30}", fullmatch=True))
def test_a_backends_name_is_stable(text: str) -> None:
    """Whatever is taken names itself, with scheme, host and port and nothing else."""
    try:
        url = backend_url(text)
    except ValueError:
        return
    assert backend_url(url) == url
    assert url.count("/") == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("", "http://127.0.0.1:11434", id="unset"),
        pytest.param("0.0.0.0", "http://127.0.0.1:11434", id="all addresses"),
        pytest.param("[::]:9999", "http://127.0.0.1:9999", id="all of IPv6"),
        pytest.param(":5000", "http://127.0.0.1:5000", id="port only"),
        pytest.param("10.0.0.5", "http://10.0.0.5:11434", id="address only"),
        pytest.param("[fd00::5]", "http://[fd00::5]:11434", id="IPv6"),
        pytest.param("http://rig", "http://rig:80", id="http means 80"),
        pytest.param("https://rig/", "https://rig:443", id="https means 443"),
        pytest.param("rig.lan:8080", "http://rig.lan:8080", id="name and port"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(value, expected) -> None:
    """Scheme, host and port are optional, each with Ollama's own default."""
    assert ollama_url(value) == expected


def test_a_wrong_ollama_host_is_named() -> None:
    """The person who set it sees the variable and the value."""
    with pytest.raises(SettingError) as caught:
        ollama_url("rig:port")
    assert str(caught.value).startswith("OLLAMA_HOST: ")
    assert str(caught.value).endswith("got 'rig:port'")


@pytest.mark.parametrize(
    ("text", "expected", "loopback"),
    [
        pytest.param("127.0.0.1:21434", Listen("127.0.0.1", 21434), True, id="IPv4"),
        pytest.param("[::1]:1", Listen("::1", 1), True, id="IPv6"),
        pytest.param("localhost:1", Listen("localhost", 1), True, id="name"),
        pytest.param("0.0.0.0:1", Listen("0.0.0.0", 1), False, id="everybody"),
        pytest.param("rig:1", Listen("rig", 1), False, id="another name"),
    ],
)
def test_where_to_listen(text, expected, loopback) -> None:
    """Host and port, and whether only this machine can reach it."""
    assert listen(text) == expected
    assert listen(text).loopback is loopback


@pytest.mark.parametrize(
    "text", ["", "21434", ":1", "rig", "rig:x", "rig:1/x", "a@b:1"]
)
def test_where_not_to_listen(text) -> None:
    """What is not host and port is refused, naming the flag."""
    with pytest.raises(SettingError, match=r"^--listen: "):
        listen(text)
