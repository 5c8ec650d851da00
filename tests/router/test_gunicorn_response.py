"""A head leaves with the first of its body; framing is gunicorn's own rules."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from router.gunicorn_response import Response, send_all, serve


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
    rest = []
    slow = SimpleNamespace(_sock=SimpleNamespace(send=lambda data: 3))
    slow.sendall = rest.append
    send_all(slow, b"abcdef")
    assert rest == [b"def"]


@pytest.mark.parametrize("started", [False, True], ids=["before", "after the head"])
def test_application_that_fails(started, monkeypatch):
    """Before the head gunicorn answers; after it the connection ends, unanswered."""
    client = Client()

    def application(environ, start_response):
        if started:
            start_response("200 OK", [])(b"some")
        raise ValueError("bug")

    made = Response(request(), client, SimpleNamespace())
    monkeypatch.setattr(
        "router.gunicorn_response.wsgi.create", lambda *_, **__: (made, {})
    )
    worker = SimpleNamespace(alive=True, cfg=None, wsgi=application)
    with pytest.raises(StopIteration if started else ValueError):
        serve(worker, None, None, client, None)
    client.received()
