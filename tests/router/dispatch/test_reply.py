"""Replies and pumps over real sockets, in this process's own event loop."""

from __future__ import annotations

import socket
import time

import gevent
import pytest
from gevent import socket as cooperative

from router.dispatch.attention import Attention, ClientWatch, StoppedError
from router.dispatch.backend import Connection
from router.dispatch.reply import Pump, Reply
from router.model import Outcome

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LINES = [b'{"response":"%d","done":false}\n' % n for n in range(50)]
LAST = b'{"response":"","done":true,"eval_count":50,"eval_duration":1000000000}\n'


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class Wire:
    """A node and a client, with the router's ends in between."""

    def __init__(self) -> None:
        self.attention = Attention()
        ours, self.node = cooperative.socketpair()
        self.ours, self.client = cooperative.socketpair()
        self.reply = Reply(Connection("n", ours, reused=False), self.attention)

    def presentable(self) -> Reply:
        deadline = time.monotonic() + 5
        assert self.attention.until(
            lambda: self.reply.presentable, deadline, time.monotonic
        )
        return self.reply

    def pump(self, *, chunked: bool = False, stall: float = 5.0) -> Outcome:
        pump = Pump(
            self.reply, self.ours, self.attention, chunked=chunked, clock=time.monotonic
        )
        with gevent.Timeout(10):
            outcome = pump.run(stall)
            last = self.reply.last  # the answer sends it, together with its own end
            self.ours.sendall(chunk(last) if chunked and last else last)
        return outcome

    def received(self) -> bytes:
        """Read what the client was sent, up to the close of our end."""
        self.ours.close()
        data = b""
        while piece := self.client.recv(65536):
            data += piece
        return data

    def close(self) -> None:
        for sock in (self.node, self.ours, self.client):
            sock.close()
        self.reply.close()
        self.reply.connection.close()


@pytest.fixture
def wire():
    made = Wire()
    yield made
    made.close()


def test_stream_is_passed_on(wire):
    """Every line arrives once, in order, and the connection can be used again."""
    framed = HEAD + b"".join(map(chunk, [*LINES, LAST])) + b"0\r\n\r\n"
    for at in range(0, len(framed), 97):
        wire.node.sendall(framed[at : at + 97])
    wire.presentable()
    assert wire.pump() is Outcome.END
    assert wire.received() == b"".join([*LINES, LAST])
    assert wire.reply.gate.timings().generated_tokens == 50
    assert wire.reply.close()


def test_lines_are_framed_for_http11(wire):
    """Lines go out in complete chunks; the terminator is gunicorn's."""
    wire.node.sendall(HEAD + chunk(LINES[0]) + chunk(LAST) + b"0\r\n\r\n")
    wire.presentable()
    assert wire.pump(chunked=True) is Outcome.END
    assert wire.received() == chunk(LINES[0] + LAST)


def test_node_that_dies_leaves_whole_lines(wire):
    """A cut in the middle of a line sends nothing of that line."""
    wire.node.sendall(HEAD + chunk(LINES[0]) + b'20\r\n{"respon')
    wire.presentable()
    pumping = gevent.spawn(wire.pump)
    wire.node.close()
    assert pumping.get(timeout=5) is Outcome.EOF
    assert wire.received() == LINES[0]


def test_clean_end_without_last_line_is_no_end(wire):
    """A body that ends well without the protocol's end is a broken stream."""
    wire.node.sendall(HEAD + chunk(LINES[0]) + b"0\r\n\r\n")
    wire.presentable()
    assert wire.pump() is Outcome.EOF


def test_error_line_ends_the_pump(wire):
    """The node's error line is not the client's."""
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    pumping = gevent.spawn(wire.pump)
    wire.node.sendall(chunk(b'{"error":"unexpected EOF"}\n') + b"0\r\n\r\n")
    assert pumping.get(timeout=5) is Outcome.ERROR_LINE
    assert wire.received() == LINES[0]
    assert wire.reply.gate.failure == "unexpected EOF"


def test_silence_is_a_stall(wire):
    """A node that says nothing for the stall time is given up."""
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    assert wire.pump(stall=0.05) is Outcome.STALLED


def test_stop_ends_the_pump(wire):
    """A shutdown wakes every pump."""
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    pumping = gevent.spawn(wire.pump)
    gevent.spawn_later(0.01, wire.attention.stop, Outcome.SHUTDOWN)
    assert pumping.get(timeout=5) is Outcome.SHUTDOWN


def test_slow_client_bounds_memory_and_gets_everything(wire):
    """Reading from the node stops while the client does not read."""
    lines = [b'{"response":"%s","done":false}\n' % (b"x" * 1000)] * 4000
    wire.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def send() -> None:
        wire.node.sendall(HEAD)
        for line in [*lines, LAST]:
            wire.node.sendall(chunk(line))
        wire.node.sendall(b"0\r\n\r\n")

    sending = gevent.spawn(send)
    wire.presentable()
    pumping = gevent.spawn(wire.pump)
    gevent.sleep(0.1)
    assert not sending.ready(), "4 MB went somewhere although nobody read them"
    received = bytearray()
    wanted = sum(map(len, lines)) + len(LAST)
    while len(received) < wanted:
        received += wire.client.recv(65536)
    assert pumping.get(timeout=5) is Outcome.END
    assert bytes(received) == b"".join([*lines, LAST])


def test_client_that_never_reads_is_given_up(wire):
    """A client that takes nothing for the stall time holds its slot no longer."""
    wire.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    gevent.spawn(wire.node.sendall, chunk(b'{"response":"%s"}\n' % (b"x" * 2_000_000)))
    assert wire.pump(stall=0.2) is Outcome.CLIENT_GONE


def test_client_that_closes_is_noticed(wire):
    """The watch stops the request, in whatever phase it is."""
    watch = ClientWatch(wire.ours, wire.attention)
    gevent.spawn_later(0.01, wire.client.close)
    with pytest.raises(StoppedError) as caught:
        wire.attention.until(lambda: False, time.monotonic() + 5, time.monotonic)
    watch.close()
    assert caught.value.outcome is Outcome.CLIENT_GONE


def test_pipelined_bytes_are_no_goodbye(wire):
    """Bytes of a next request neither stop this one nor spin the loop."""
    watch = ClientWatch(wire.ours, wire.attention)
    wire.client.sendall(b"GET / HTTP/1.1\r\n")
    late = time.monotonic() + 0.05
    assert not wire.attention.until(lambda: False, late, time.monotonic)
    watch.close()
    assert wire.attention.stopped is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Len", b"not http\r\n\r\n"],
    ids=["nothing", "half a head", "another protocol"],
)
def test_reply_that_never_was(wire, raw):
    """A connection that breaks before a whole head is broken, not empty."""
    wire.node.sendall(raw)
    wire.node.close()
    reply = wire.presentable()
    assert reply.broken
    assert reply.head is None


def test_whole_reply_is_collected(wire):
    """A reply that is no stream is presented when it is whole."""
    wire.node.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    gevent.sleep(0)
    assert not wire.reply.presentable
    wire.node.sendall(b"cd")
    reply = wire.presentable()
    assert (b"abcd", Outcome.END) == (reply.take(), reply.outcome())


def test_an_evicted_stream_ends_between_lines(wire):
    """What came whole goes to the client; half a line does not."""
    wire.node.sendall(HEAD + chunk(LINES[0]) + chunk(LINES[1] + LINES[2][:9]))
    wire.presentable()
    gevent.spawn_later(0.05, wire.reply.evict)
    assert wire.pump() is Outcome.EVICTED
    assert wire.received() == LINES[0] + LINES[1]


def test_an_evicted_request_has_no_answer(wire):
    """Its greenlet is woken, and its connection is of no more use."""
    assert not wire.reply.answered
    assert wire.reply.evict()
    assert wire.presentable().evicted
    assert not wire.reply.close()


@pytest.mark.parametrize("why", ["over", "not movable"])
def test_what_is_not_evicted(wire, why):
    """A reply that is whole, and one that may not be continued."""
    whole = [*LINES, LAST] if why == "over" else LINES[:1]
    end = b"0\r\n\r\n" if why == "over" else b""
    wire.node.sendall(HEAD + b"".join(map(chunk, whole)) + end)
    assert wire.presentable().answered
    wire.reply.movable = why != "not movable"
    assert not wire.reply.evict()
    assert not wire.reply.evicted
