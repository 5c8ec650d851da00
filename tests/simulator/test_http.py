"""The HTTP side, over a transport that only remembers."""

from __future__ import annotations

import asyncio

import pytest

from simulator.http import MAX_HEAD_BYTES, Connection, Reply, Request, chunk


class Wire(asyncio.Transport):
    """What was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True

    @property
    def body(self) -> bytes:
        return self.sent.partition(b"\r\n\r\n")[2]


class Line:
    """A connection whose app records its requests and answers `ok` to each."""

    def __init__(self, *, answers: bool = True) -> None:
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self._answers = answers
        self.wire = Wire()
        self.open: set[Connection] = set()
        self.connection = Connection(self, self.open)
        self.connection.connection_made(self.wire)

    def __call__(self, request: Request, reply: Reply) -> None:
        self.requests.append(request)
        self.replies.append(reply)
        if self._answers:
            reply.send(200, b"ok", "text/plain")

    def feed(self, *parts: bytes) -> None:
        async def feed() -> None:
            for part in parts:
                self.connection.data_received(part)
                await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(feed())


GET = b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("raw", "path", "body"),
    [(GET, "/a", b""), (POST, "/b", b"hello"), (CHUNKED, "/c", b"hello")],
    ids=["no body", "a length", "chunks"],
)
def test_reads_a_request_however_it_is_cut(raw, path, body):
    """Whole, or byte by byte."""
    for parts in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        line = Line()
        line.feed(*parts)
        (request,) = line.requests
        assert (request.path, request.body) == (path, body)
        assert line.wire.body == b"ok"


def test_answers_one_after_the_other_on_one_connection():
    """Pipelined requests wait for their turn, in order."""
    line = Line()
    line.feed(GET + POST + GET)
    assert [request.path for request in line.requests] == ["/a", "/b", "/a"]
    assert line.wire.sent.count(b"HTTP/1.1 200 OK") == 3
    assert not line.wire.closed


@pytest.mark.parametrize(
    "raw",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"],
    ids=["HTTP/1.0", "asked to close"],
)
def test_closes_after_the_answer_when_asked(raw):
    """And says so in the head."""
    line = Line()
    line.feed(raw)
    assert line.wire.closed
    assert b"Connection: close" in line.wire.sent


def test_a_head_answer_has_a_length_and_no_body():
    """As for GET, without the body."""
    line = Line()
    line.feed(b"HEAD / HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 2" in line.wire.sent
    assert line.wire.body == b""


def test_says_go_on_to_a_client_that_waits_to_send_its_body():
    """Otherwise curl waits a second for it."""
    line = Line()
    head, body = POST.split(b"\r\n\r\n")
    line.feed(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert line.wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.feed(body)
    assert line.requests[0].body == b"hello"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
    ],
    ids=[
        "no request",
        "no header",
        "another version",
        "no length",
        "too long",
        "no chunk",
        "a negative chunk",
        "an endless head",
    ],
)
def test_refuses_and_closes(raw, status):
    """What cannot be read is answered once, and the connection ends."""
    line = Line()
    line.feed(raw)
    assert line.wire.sent.startswith(b"HTTP/1.1 %d " % status)
    assert line.wire.closed
    assert line.requests == []


def test_streams_in_chunks_after_a_head_of_its_own():
    """The head goes out with the first chunk, not before."""
    line = Line(answers=False)
    line.feed(GET)
    (reply,) = line.replies
    assert line.wire.sent == b""
    reply.write(chunk(b"one"), "text/event-stream")
    reply.write(chunk(b"two"))
    reply.finish()
    assert b"Transfer-Encoding: chunked" in line.wire.sent
    assert line.wire.body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_a_client_that_goes_away_is_told_on():
    """At once, and only while its answer is due."""
    line = Line(answers=False)
    line.feed(GET)
    gone = []
    line.replies[0].on_gone = lambda: gone.append(True)
    line.connection.connection_lost(None)
    assert (gone, line.open) == ([True], set())
    line.replies[0].write(chunk(b"late"))
    assert line.wire.sent == b""


def test_a_listener_that_closed_ends_connections_as_they_get_idle():
    """One under way is completed first."""
    line = Line(answers=False)
    line.feed(GET)
    line.connection.close_when_idle()
    assert not line.wire.closed
    line.replies[0].send(200, b"ok")
    assert line.wire.closed
