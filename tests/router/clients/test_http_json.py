"""Polling over real sockets: deadlines, limits and what is refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace

import pytest

from router.clients.http_json import PollError, PollRefusedError, get_json
from router.model import Access, Node
from tests.harness.ports import free_port

HEAD = b"HTTP/1.1 200 OK\r\n"


class Peer:
    """Answers each connection with `send`, piece by piece, then `hold`s it open."""

    def __init__(self, pieces, every=0.0, hold=False):
        self.pieces, self.every, self.hold = pieces, every, hold
        self.request = b""
        self.done = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.node = Node("rig", f"http://127.0.0.1:{self.listener.getsockname()[1]}")
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            peer, _ = self.listener.accept()
            with peer:
                self.request = peer.recv(4096)
                for piece in self.pieces:
                    peer.sendall(piece)
                    if self.done.wait(self.every):
                        return
                if self.hold:
                    self.done.wait()

    def close(self):
        self.done.set()
        self.listener.close()
        self.thread.join(5)


@pytest.fixture
def peer():
    peers = []

    def start(*pieces, **more):
        peers.append(Peer(pieces, **more))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b'Content-Length: 8\r\n\r\n{"a": 1}',),
        (HEAD, b"Transfer-Encoding: chunked\r\n\r\n4\r\n{", b'"a"\r\n4\r\n: 1}\r\n0'),
        (HEAD + b'\r\n{"a": 1}',),
    ],
    ids=["length", "chunked in pieces", "until the end"],
)
def test_json_comes_in_every_framing(peer, pieces):
    """Ollama sends both framings; a proxy in between may send the third."""
    pieces = (*pieces, b"\r\n\r\n") if b"chunked" in b"".join(pieces) else pieces
    node = peer(*pieces)
    assert get_json(node.node, "/api/ps", 5) == {"a": 1}
    assert node.request.startswith(b"GET /api/ps HTTP/1.1\r\nHost: 127.0.0.1:")


def test_a_refused_connection_is_told_apart():
    """Nobody listens: one such poll is enough."""
    with pytest.raises(PollRefusedError):
        get_json(Node("rig", f"http://127.0.0.1:{free_port()}"), "/api/ps", 1)


@pytest.mark.parametrize(
    ("pieces", "every"),
    [
        pytest.param((), 0, id="nothing comes"),
        pytest.param((HEAD + b"Content-Length: 9\r\n\r\n{",), 0, id="half a body"),
        pytest.param([b"H"] * 10_000, 0.05, id="a head that drips"),
        pytest.param(
            [HEAD + b"Content-Length: 100\r\n\r\n", *[b" "] * 100],
            0.05,
            id="a body that drips",
        ),
    ],
)
def test_the_deadline_is_for_the_whole_exchange(peer, pieces, every):
    """A node that drips a byte now and then never runs into a read's timeout."""
    node = peer(*pieces, every=every, hold=True)
    with pytest.raises(PollError, match=r"no answer within 0\.3 s"):
        get_json(node.node, "/api/ps", 0.3)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        pytest.param((b"HTTP/1.1 500 No\r\n\r\n",), "status 500", id="500"),
        pytest.param(
            (b"HTTP/1.1 302 Go\r\nLocation: http://x/\r\n\r\n",),
            "status 302",
            id="redirect",
        ),
        pytest.param((HEAD + b"\r\n<html>",), "not JSON", id="html"),
        pytest.param((b"SSH-2.0-OpenSSH\r\n",), "BadStatusLine", id="ssh"),
        pytest.param((), "RemoteDisconnected", id="closed"),
        pytest.param((HEAD + b"Content-Length: 9\r\n\r\n{",), "not JSON", id="cut"),
        pytest.param(
            (HEAD + b"\r\n" + b" " * (16 * 1024 * 1024 + 1),), "more than", id="endless"
        ),
    ],
)
def test_what_is_no_answer_says_why(peer, pieces, message):
    """The reason is what an operator reads beside the node."""
    with pytest.raises(PollError, match=message):
        get_json(peer(*pieces).node, "/api/ps", 10)


def test_a_name_that_does_not_resolve_is_a_failed_poll():
    """Not a refusal: name services fail for a moment."""
    with pytest.raises(PollError, match="gaierror") as caught:
        get_json(Node("rig", "http://no-such-node.invalid:1"), "/api/ps", 5)
    assert not isinstance(caught.value, PollRefusedError)


def test_a_path_and_a_login_go_along(peer, tmp_path):
    """A node behind a reverse proxy with a token."""
    (tmp_path / "token").write_text("s3cret\n")
    node = peer(HEAD + b"\r\n{}")
    access = Access(token_file=tmp_path / "token")
    behind = replace(node.node, url=f"{node.node.url}/ollama", access=access)
    assert get_json(behind, "/api/ps", 5) == {}
    assert node.request.startswith(b"GET /ollama/api/ps HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in node.request


def test_a_login_that_cannot_be_read_is_said(peer, tmp_path):
    """With its file's name."""
    access = Access(token_file=tmp_path / "none")
    with pytest.raises(PollError, match="none"):
        get_json(replace(peer().node, access=access), "/api/ps", 5)
