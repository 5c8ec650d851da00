"""A request's head: taken apart as gunicorn does it, by fewer steps."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.message import Request
from hypothesis import given
from hypothesis import strategies as st

from router.server.body_budget import BodyBudget
from router.server.worker import BoundedRequest, SocketReader

PIECES = (
    *(b"POST /api/chat HTTP/1.1", b"GET /?a=b HTTP/1.0", b"POST  /x HTTP/1.1", b""),
    *(b"Host: a", b"Host: b", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    *(b"Content-Type: a", b"content-type: b", b"Expect: 100-continue", b"X_Y: 1"),
    *(b"Connection: close", b"Bad Name: 1", b": v", b" folded", b"A: \x01", b"a\nb"),
    *(b"GET /" + b"x" * 9000 + b" HTTP/1.1", b"\r", b"a: b\nc: d"),
)
BODIES = (b"", b"abc", b"a\r\n\r\nb", b"GET / HTTP/1.1\r\n\r\n")


class AsGunicorn(BoundedRequest):
    parse = Request.parse


def config() -> Config:
    made = Config()
    made.set("http_parser", "python")
    made.set("forwarded_allow_ips", "")
    return made


def parsed(kind: type[BoundedRequest], data: bytes) -> Any:
    """Return all that was read of the head and what is left, or what was wrong."""
    here, there = socket.socketpair()
    with here, there:
        there.shutdown(socket.SHUT_WR)
        source = SocketReader(here, BodyBudget())
        source.unread(data)
        try:
            request = kind(CONFIG, source, ("192.0.2.1", 5))
        except Exception as error:  # noqa: BLE001 - the kind of fault is compared
            return type(error)
        left = source.take_buffered()
        return request.method, request.uri, request.version, request.headers, left


CONFIG = config()


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=7),
    st.sampled_from(BODIES),
    st.booleans(),
)
def test_a_head_is_read_as_gunicorn_reads_it(lines, body, begins):
    """Good or bad, it comes to the same, and so does what is behind it."""
    head = [PIECES[0], *lines] if begins else lines
    data = b"\r\n".join([*head, b"", body])
    assert parsed(AsGunicorn, data) == parsed(BoundedRequest, data)


@pytest.mark.parametrize("between", [[], [b"Host: a"]], ids=["next", "later"])
def test_the_first_content_type_counts(between):
    """As Go reads it; what stands around the others stays."""
    kinds = [b"Content-Type: a", *between, b"CONTENT-TYPE: b", b"content-type: c"]
    data = b"\r\n".join([PIECES[0], *kinds, b"X: content-type: d", b"", b""])
    names = [name for name, _ in parsed(BoundedRequest, data)[3]]
    assert ["CONTENT-TYPE", *["HOST" for _ in between], "X"] == names
