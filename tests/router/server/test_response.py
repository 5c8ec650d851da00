"""A head leaves with the first of its body; framing is gunicorn's own rules."""

from __future__ import annotations

import socket
from contextlib import suppress
from types import SimpleNamespace

import pytest
import structlog
from gunicorn.config import Config
from gunicorn.http import errors, wsgi

from router.server.response import ClientConnection, Response, send_all, serve
from router.server.worker import BoundedParser


class Client:
    """gevent's shape of a socket, over a real pair; counts the sends."""

    def __init__(self) -> None:
        ours, self.other = socket.socketpair()
        self.sends = 0
        self._real = ours
        self._sock = self

    def send(self, data: bytes) -> int:
        self.sends += 1
        return self._real.send(data)

    def shutdown(self, how: int) -> None:
        self._real.shutdown(how)

    def received(self) -> bytes:
        self._real.close()
        data = b""
        while piece := self.other.recv(65536):
            data += piece
        self.other.close()
        return data


def request(version=(1, 1), method="POST"):
    return SimpleNamespace(version=version, method=method, should_close=lambda: False)


def answer(client, headers, pieces, **kind) -> bytes:
    response = Response(request(**kind), client, SimpleNamespace())
    response.start_response("200 OK", headers)
    for piece in pieces:
        response.write(piece)
    response.close()
    return client.received()


def without_date(data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    return b"\r\n".join(x for x in lines if not x.startswith(b"Date: "))


def test_whole_answer_is_one_send():
    """Head and body leave together."""
    client = Client()
    data = answer(client, [("Content-Length", "2")], [b"ok"])
    assert without_date(data) == (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
    )
    assert client.sends == 1


def test_empty_piece_sends_the_head_alone():
    """A stream has its head out before its first line; the end is framed."""
    client = Client()
    data = answer(client, [], [b"", b"line\n"])
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"5\r\nline\n\r\n0\r\n\r\n"
    assert client.sends == 3


def test_http10_is_not_framed():
    """A client without chunks gets the body as it is, and the close."""
    data = answer(Client(), [], [b"a", b"b"], version=(1, 0))
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body == b"ab"


def test_head_request_has_no_body():
    """HEAD tells the length and sends nothing of it."""
    headers = [("Content-Length", "2")]
    data = answer(Client(), headers, [b"ok"], method="HEAD")
    assert data.endswith(b"Content-Length: 2\r\n\r\n")


def test_what_does_not_fit_is_waited_for():
    """The rest goes the way that waits."""
    rest: list[bytes] = []
    slow = SimpleNamespace(_sock=SimpleNamespace(send=lambda data: 3))
    slow.sendall = rest.append
    send_all(slow, b"abcdef")
    assert rest == [b"def"]


CFG = Config()
CLIENT = ("127.0.0.2", 4711)
LISTENER = ("127.0.0.1", 8000)
CHAT = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


def parsed(data: bytes):
    """The request in these bytes, by the parser that the worker has."""
    return next(BoundedParser(CFG, iter([data]), CLIENT))


@pytest.mark.parametrize("started", [False, True], ids=["before", "after the head"])
def test_application_that_fails(started):
    """Before the head gunicorn answers; after it the connection ends, unanswered.

    The log names the request.
    """
    client = Client()

    def application(environ, start_response):
        if started:
            start_response("200 OK", [("X-Request-Id", "mine")])(b"some")
        raise ValueError("bug")

    worker = SimpleNamespace(alive=True, cfg=CFG, wsgi=application)
    with (
        structlog.testing.capture_logs() as told,
        pytest.raises(StopIteration if started else ValueError),
    ):
        serve(worker, parsed(CHAT), ClientConnection(client, CLIENT, LISTENER))
    assert client.received().endswith(b"4\r\nsome\r\n" if started else b"")
    names = [(each["event"], each["request_id"]) for each in told]
    assert names == ([("answer_broke_off", "mine")] if started else [])


@pytest.mark.parametrize(
    "data",
    [
        CHAT,
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /a%20b%C3%A9?q=%20&x HTTP/1.1\r\nHost: h:1\r\n\r\n",
        b"GET http://h/x HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a:  2 \r\nX-A: 3\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\n\r\n",
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: text/plain\r\n\r\n0\r\n\r\n"
        ),
    ],
)
@pytest.mark.parametrize("listener", [LISTENER, ("::1", 8000, 0, 0)])
def test_environ_is_as_gunicorn_makes_it(data, listener):
    """But for what nobody here reads."""
    seen = {}

    def application(environ, start_response):
        seen.update(environ)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    client, request = Client(), parsed(data)
    worker = SimpleNamespace(alive=True, cfg=CFG, wsgi=application)
    with suppress(StopIteration):  # HTTP/1.0 ends the connection
        serve(worker, request, ClientConnection(client, CLIENT, listener))
    client.received()
    _, wanted = wsgi.create(request, client, CLIENT, listener, CFG)
    own = {"wsgi.errors": seen["wsgi.errors"], "wsgi.multithread": True}
    del wanted["wsgi.early_hints"]
    assert seen == wanted | own


def test_a_body_is_asked_for_where_the_client_waits():
    """`Expect: 100-continue` is answered before the application reads."""
    client = Client()

    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        return [environ["wsgi.input"].read()]

    worker = SimpleNamespace(alive=True, cfg=CFG, wsgi=application)
    expecting = CHAT.replace(b"Host", b"Expect: 100-continue\r\nHost")
    serve(worker, parsed(expecting), ClientConnection(client, CLIENT, LISTENER))
    data = client.received()
    assert data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert data.endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (("X Y", "1"), errors.InvalidResponseHeaderName),
        (("X-Y", "1\r\nX-Z: 2"), errors.InvalidResponseHeader),
    ],
)
def test_a_header_that_would_split_the_answer(header, error):
    """It is refused, each time, and nothing goes out."""
    for _ in range(2):
        client = Client()
        with pytest.raises(error):
            answer(client, [header], [b"x"])
        assert client.received() == b""


def test_hop_by_hop_headers_are_the_routers_own():
    """An application's word on the connection is not passed on."""
    data = answer(Client(), [("Connection", "close"), ("X-A", " 1 ")], [b"x"])
    assert b"Connection: keep-alive\r\n" in data
    assert b"Connection: close" not in data
    assert b"X-A: 1\r\n" in data
