"""Who is at the other end of a connection of this machine, as the kernel knows it."""

from __future__ import annotations

import os
import pwd
import socket

import pytest

from router.web.local_user import NOT_TOLD, Peer, local_peer

HEAD = "sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid\n"
OURS = "1: 0100007F:1F40 0100007F:C001 01 00000000:00000000 00:00000000 00000000 33\n"
THEIRS = "2: 0100007F:C001 0100007F:1F40 01 00000000:00000000 00:00000000 0 {uid}\n"
CLOSED = "3: 0100007F:C001 0100007F:1F40 06 00000000:00000000 00:00000000 0 7\n"
ENVIRON = {"REMOTE_PORT": str(0xC001), "SERVER_PORT": str(0x1F40)}


@pytest.fixture
def table(tmp_path):
    def write(*lines):
        path = tmp_path / "tcp"
        path.write_text(HEAD + "".join(lines))
        return path

    return write


def test_the_owner_of_the_other_end(table):
    """Its own end is another user's; what is closed is nobody's."""
    root = table(OURS, CLOSED, THEIRS.format(uid=0))
    assert local_peer(ENVIRON, [root], own=1000) == Peer("root", trusted=True)


@pytest.mark.parametrize(
    ("uid", "trusted"), [(1000, True), (0, True), (33, False), (987654, False)]
)
def test_only_the_routers_own_user_and_root_are_trusted(table, uid, trusted):
    """A proxy runs as a user of its own."""
    found = local_peer(ENVIRON, [table(THEIRS.format(uid=uid))], own=1000)
    assert found.trusted is trusted


def test_user_without_a_name(table):
    """The number is what is known."""
    found = local_peer(ENVIRON, [table(THEIRS.format(uid=987654))], own=1000)
    assert found.name == "987654"


def test_connection_that_is_closing_is_not_trusted(table):
    """The kernel lists it as root's: a proxy's client could have it closed."""
    assert not local_peer(ENVIRON, [table(CLOSED)], own=1000).trusted
    assert not local_peer(ENVIRON, [table(OURS)], own=1000).trusted


@pytest.mark.parametrize(
    "environ",
    [{}, {"REMOTE_PORT": "", "SERVER_PORT": "8000"}],
    ids=["no port", "empty port"],
)
def test_what_cannot_be_told(table, environ):
    """Nothing speaks against it."""
    assert local_peer(environ, [table(THEIRS.format(uid=33))], own=1000) is NOT_TOLD


def test_without_a_table(tmp_path):
    """A kernel that lists none."""
    assert local_peer(ENVIRON, [tmp_path / "none"]) is NOT_TOLD


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_real_connection(family):
    """The kernel's own tables; once it is closed, nobody is trusted."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    with listener:
        port = listener.getsockname()[1]
        client = socket.create_connection((host, port))
        with client, listener.accept()[0]:
            environ = {
                "REMOTE_PORT": str(client.getsockname()[1]),
                "SERVER_PORT": str(port),
            }
            me = pwd.getpwuid(os.getuid()).pw_name
            assert local_peer(environ) == Peer(me, trusted=True)
            client.close()
            assert not local_peer(environ).trusted
