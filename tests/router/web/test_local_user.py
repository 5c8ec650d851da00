"""Who is at the other end of a connection of this machine, as the kernel knows it."""

from __future__ import annotations

import os
import pwd
import socket

import pytest

from router.web.local_user import local_user

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
    assert local_user(ENVIRON, [root]) == "root"


def test_user_without_a_name(table):
    """The number is what is known."""
    assert local_user(ENVIRON, [table(THEIRS.format(uid=987654))]) == "987654"


@pytest.mark.parametrize(
    "environ",
    [{}, {"REMOTE_PORT": "", "SERVER_PORT": "8000"}, {**ENVIRON, "REMOTE_PORT": "9"}],
    ids=["unix socket", "no port", "another"],
)
def test_what_cannot_be_told(table, environ):
    """A socket that is not listed, as of another network namespace."""
    assert local_user(environ, [table(THEIRS.format(uid=0))]) is None


def test_without_a_table(tmp_path):
    """A kernel that lists none."""
    assert local_user(ENVIRON, [tmp_path / "none"]) is None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_real_connection(family):
    """The kernel's own tables."""
    with socket.create_server(("", 0), family=family) as listener:
        port = listener.getsockname()[1]
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        try:
            client = socket.create_connection((host, port))
        except OSError:
            pytest.skip(f"no {host} here")
        with client, listener.accept()[0]:
            environ = {
                "REMOTE_PORT": str(client.getsockname()[1]),
                "SERVER_PORT": str(port),
            }
            assert local_user(environ) == pwd.getpwuid(os.getuid()).pw_name
