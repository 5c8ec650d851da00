"""Replies and pumps over real sockets, in this process's own event loop."""

from __future__ import annotations

import socket
import time
from typing import Any

import gevent
import pytest
from gevent import socket as cooperative

from router.failover.continuation.transcript import Transcript
from router.model import Outcome
from router.relay.pool import Connection
from router.relay.upstream import Pump, UpstreamReply
from router.runtime.cancellation import Cancellation, CancelledError, ClientWatch
from tests.harness.patience import Patience

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LINES = [b'{"response":"%d","done":false}\n' % n for n in range(50)]
LAST = b'{"response":"","done":true,"eval_count":50,"eval_duration":1000000000}\n'


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def unchunked(data: bytes) -> bytes:
    """Take chunks apart; there must be nothing else."""
    lines, at = [], 0
    while at < len(data):
        start = data.index(b"\r\n", at) + 2
        end = start + int(data[at : start - 2], 16)
        assert start < end
        assert data[end : end + 2] == b"\r\n"
        lines.append(data[start:end])
        at = end + 2
    return b"".join(lines)


def _pair() -> Any:
    """Sockets as gevent makes them; its types do not have the real one beneath."""
    return cooperative.socketpair()


class Wire:
    """A node and a client, with the router's ends in between.

    chunked: whether the client takes chunks, which may go on as they came
    """

    def __init__(self, *, chunked: bool) -> None:
        self.chunked = chunked
        self.cancellation = Cancellation()
        ours, self.node = _pair()
        self.ours, self.client = _pair()
        self.reply = UpstreamReply(
            Connection("n", ours, reused=False), self.cancellation
        )

    def presentable(self) -> UpstreamReply:
        deadline = time.monotonic() + 5
        assert self.cancellation.until(
            lambda: self.reply.presentable, deadline, time.monotonic
        )
        return self.reply

    def pump(self, *, stall: float = 5.0, client: float | None = None) -> Outcome:
        pump = Pump(
            self.reply,
            self.ours,
            self.cancellation,
            chunked=self.chunked,
            clock=time.monotonic,
        )
        with gevent.Timeout(10):
            outcome = pump.run(Patience(stall, client or stall))
            last = self.reply.last  # the answer sends it, together with its own end
            if last:
                self.ours.sendall(chunk(last) if self.chunked else last)
        return outcome

    def received(self) -> bytes:
        """Close our end; returns the lines that the client was sent."""
        self.ours.close()
        return self.read_lines()

    def read_lines(self) -> bytes:
        data = self.read_bytes()
        return unchunked(data) if self.chunked else data

    def read_bytes(self) -> bytes:
        """Read what the client is sent, up to the close of our end."""
        data = bytearray()
        while piece := self.client.recv(65536):
            data += piece
        return bytes(data)

    def close(self) -> None:
        for sock in (self.node, self.ours, self.client):
            sock.close()
        self.reply.close()
        self.reply.connection.close()


@pytest.fixture(params=[False, True], ids=["plain", "chunks"])
def wire(request):
    made = Wire(chunked=request.param)
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
    assert wire.pump() is Outcome.END
    whole = LINES[0] + LAST
    wire.ours.close()
    assert wire.read_bytes() == (chunk(whole) if wire.chunked else whole)


@pytest.mark.parametrize("together", [1, 2, 7])
def test_lines_are_kept_as_they_go(wire, together):
    """Short ones and long ones, alone and several in one read: all, in order."""
    texts = [str(n) * (1 + 700 * (n % 50 == 0)) for n in range(700)]
    lines = [b'{"response":"%b","done":false}\n' % text.encode() for text in texts]
    wire.node.sendall(HEAD + chunk(lines[0]))
    reply, kept = wire.presentable(), Transcript("/api/generate")
    kept.add(lines[0])
    reply.gate.transcript = kept
    pumping = gevent.spawn(wire.pump)
    reading = gevent.spawn(wire.read_lines)
    gevent.sleep(0)
    waiting = []
    for at in range(1, len(lines), together):
        wire.node.sendall(b"".join(map(chunk, lines[at : at + together])))
        gevent.sleep(0.0005)
        waiting.append(len(kept.blocks))
    wire.node.sendall(chunk(LAST) + b"0\r\n\r\n")
    assert pumping.get(timeout=5) is Outcome.END
    wire.ours.close()
    assert reading.get(timeout=5) == b"".join(lines) + LAST
    assert max(waiting) < 450  # the rest was made plain
    assert reply.lines == len(lines) + 1
    assert len(lines) / (2 * together) < (reply.reads or 0) <= len(lines) + 1
    assert kept.settle() is None
    assert kept.text() == "".join(texts)


def test_a_client_that_is_gone_ends_the_pump(wire):
    """By the first send that fails, where nobody watches its socket."""
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    pumping = gevent.spawn(wire.pump)
    gevent.sleep(0)
    wire.client.close()
    for line in LINES:
        wire.node.sendall(chunk(line))
        gevent.sleep(0)
    assert pumping.get(timeout=5) is Outcome.CLIENT_GONE


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


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"], ids=["alone", "with the end"])
def test_error_line_ends_the_pump(wire, end):
    """The node's error line is not the client's."""
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    pumping = gevent.spawn(wire.pump)
    gevent.sleep(0)
    wire.node.sendall(chunk(b'{"error":"unexpected EOF"}\n') + end)
    assert pumping.get(timeout=5) is Outcome.ERROR_LINE
    assert wire.received() == LINES[0]
    assert wire.reply.gate.failure == "unexpected EOF"


def test_the_counters_stand_before_the_end_of_v1(wire):
    """Each event in a read of its own: the last two tell the tokens and the end."""
    usage = (
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7}}\n\n'
    )
    wire.node.sendall(HEAD.replace(b"application/x-ndjson", b"text/event-stream"))
    wire.node.sendall(chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'))
    wire.presentable()
    pumping = gevent.spawn(wire.pump)
    for piece in (chunk(usage), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"):
        gevent.sleep(0.01)
        wire.node.sendall(piece)
    assert pumping.get(timeout=5) is Outcome.END
    assert wire.reply.gate.timings().generated_tokens == 7


def test_a_stream_that_goes_on_is_no_stall(wire):
    """However long it takes in all."""
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    pumping = gevent.spawn(lambda: wire.pump(stall=1.0))
    for line in LINES:
        gevent.sleep(0.03)
        wire.node.sendall(chunk(line))
    wire.node.sendall(chunk(LAST) + b"0\r\n\r\n")
    assert pumping.get(timeout=5) is Outcome.END


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
    gevent.spawn_later(0.01, wire.cancellation.stop, Outcome.SHUTDOWN)
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
    assert wire.reply.held_up
    assert wire.reply.reads is None, "what its client took says nothing of the node"
    reading = gevent.spawn(wire.read_lines)
    assert pumping.get(timeout=5) is Outcome.END
    wire.ours.close()
    assert reading.get(timeout=5) == b"".join([*lines, LAST])


def test_client_that_never_reads_is_given_up(wire):
    """A client that takes nothing for the stall time holds its slot no longer."""
    wire.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    gevent.spawn(wire.node.sendall, chunk(b'{"response":"%s"}\n' % (b"x" * 2_000_000)))
    assert wire.pump(stall=0.2) is Outcome.CLIENT_GONE


def test_a_slow_client_has_a_limit_of_its_own(wire):
    """One that takes nothing for a moment is not measured by its node's silence."""
    wire.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    long = b'{"response":"%s"}\n' % (b"x" * 2_000_000)
    wire.node.sendall(HEAD + chunk(LINES[0]))
    wire.presentable()
    gevent.spawn(wire.node.sendall, chunk(long) + chunk(LAST) + b"0\r\n\r\n")
    pumping = gevent.spawn(lambda: wire.pump(stall=0.1, client=5.0))
    gevent.sleep(0.5)
    assert not pumping.ready()
    reading = gevent.spawn(wire.read_lines)
    assert pumping.get(timeout=5) is Outcome.END
    wire.ours.close()
    assert reading.get(timeout=5) == LINES[0] + long + LAST


def test_client_that_closes_is_noticed(wire):
    """The watch stops the request, in whatever phase it is."""
    watch = ClientWatch(wire.ours, wire.cancellation)
    gevent.spawn_later(0.01, wire.client.close)
    with pytest.raises(CancelledError) as caught:
        wire.cancellation.until(lambda: False, time.monotonic() + 5, time.monotonic)
    watch.close()
    assert caught.value.outcome is Outcome.CLIENT_GONE


def test_pipelined_bytes_are_no_goodbye(wire):
    """Bytes of a next request neither stop this one nor spin the loop."""
    watch = ClientWatch(wire.ours, wire.cancellation)
    wire.client.sendall(b"GET / HTTP/1.1\r\n")
    late = time.monotonic() + 0.05
    assert not wire.cancellation.until(lambda: False, late, time.monotonic)
    watch.close()
    assert wire.cancellation.stopped is None


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


WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


def test_a_large_reply_is_counted_until_it_is_let_go(wire):
    """What is collected counts; its end frees it."""
    bodies = wire.reply.connection.bodies
    size = 1_000_000
    gevent.spawn(wire.node.sendall, WHOLE % size + b"x" * size)
    assert len(wire.presentable().take()) == size
    assert size - 200_000 < bodies.held_bytes <= size
    wire.reply.close()
    assert bodies.held_bytes == 0


def test_a_reply_that_has_no_room_is_ended(wire):
    """Where too much is held already it ends, and says why; nothing stays counted."""
    bodies = wire.reply.connection.bodies
    bodies.most_bytes = 500_000
    gevent.spawn(wire.node.sendall, WHOLE % 1_000_000 + b"x" * 1_000_000)
    reply = wire.presentable()
    assert "do not fit into 500000" in str(reply.no_room)
    reply.close()
    assert bodies.held_bytes == 0


def test_a_long_line_is_counted_while_it_is_held(wire):
    """A line that does not end is held, and counts; its end lets it go."""
    bodies = wire.reply.connection.bodies
    line = b'{"response":"' + b"a" * 1_000_000
    wire.node.sendall(HEAD)
    sent = gevent.spawn(wire.node.sendall, chunk(line))
    with gevent.Timeout(10):
        while bodies.held_bytes < 900_000:
            gevent.sleep(0.001)
        sent.join()
    gevent.spawn(wire.node.sendall, chunk(b'"}\n'))
    assert wire.presentable().take() == line + b'"}\n'
    wire.reply.close()
    assert bodies.held_bytes == 0


@pytest.mark.parametrize("more", [b'data: {"label":"yes"}\n\n', b"event: odd\n\n"])
def test_the_end_of_an_unknown_stream(wire, more):
    """Where the route is not known, a clean end is the end."""
    head = HEAD.replace(b"application/x-ndjson", b"text/event-stream")
    wire.reply.open_ended = True
    wire.node.sendall(head + chunk(more) + b"0\r\n\r\n")
    wire.presentable()
    assert wire.reply.outcome() is Outcome.END


@pytest.mark.parametrize("answered", [False, True], ids=["whole", "begun"])
def test_a_dead_runner_ends_what_cannot_move(wire, answered):
    """Its connection closes, whatever may go on with it: that cures Ollama."""
    wire.node.sendall(HEAD + chunk(LINES[0]) if answered else b"HTTP/1.1 200")
    if answered:
        wire.presentable()
    wire.reply.movable = False
    gevent.spawn_later(0.05, wire.reply.abandon, "the model runner has stopped")
    if answered:
        assert wire.pump() is Outcome.ERROR_LINE
        assert wire.received() == LINES[0]
        assert wire.reply.gate.failure == "the model runner has stopped"
    else:
        assert wire.presentable().runner_died
    assert not wire.reply.close()
    assert not wire.reply.abandon("twice")


class Upload:
    """A node that takes a large request as the test says."""

    def __init__(self, size=4_000_000):
        self.ours, self.node = _pair()
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.ours.setblocking(False)
        sent = self.ours._sock.send(b"x" * size)
        connection = Connection("n", self.ours, reused=False)
        connection.unsent = memoryview(b"x" * (size - sent))
        self.cancellation, self.now, self.size = Cancellation(), 100.0, size
        self.reply = UpstreamReply(connection, self.cancellation, lambda: self.now)

    def take(self, size):
        left = size
        while left:
            left -= len(self.node.recv(min(left, 65536)))

    def until(self, ready):
        with gevent.Timeout(5):
            while not ready():
                gevent.sleep(0)


@pytest.fixture
def upload():
    made = Upload()
    yield made
    made.reply.close()
    made.ours.close()
    made.node.close()


def test_a_head_that_trickles(upload):
    """A node has ten seconds for it, however often a byte of it comes."""
    upload.take(upload.size)
    for piece in (b"HTTP/1.1 200 OK\r\n", b"X-Long: a", b"a"):
        upload.node.send(piece)
        upload.until(lambda: upload.reply.bytes_seen or upload.reply.broken)
        upload.now += 6.0
        gevent.sleep(0)
    upload.until(lambda: upload.reply.broken)
    assert "its head is not complete after 10 s" in upload.reply.broken


def test_a_request_goes_out_as_slowly_as_it_is_taken(upload):
    """Each piece that a node takes is a sign of life; the answer comes after it."""
    reply = upload.reply
    assert not reply.moved_within(60)
    mark, upload.now = reply.mark, 200.0
    upload.take(1_000_000)
    upload.until(lambda: reply.moved_at == 200.0)
    assert (True, True) == (reply.sending, reply.moved_within(60))
    assert mark != reply.mark
    upload.take(upload.size - 1_000_000)
    upload.node.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    upload.until(lambda: reply.presentable)
    assert (False, b"ok", True) == (reply.sending, reply.take(), reply.close())


def test_an_answer_before_the_whole_request_is_taken(upload):
    """It is the answer, and the connection is of no more use."""
    upload.node.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    upload.until(lambda: upload.reply.presentable)
    assert (413, b"no") == (upload.reply.head.status, upload.reply.take())
    assert not upload.reply.close()


def test_a_node_that_breaks_while_it_is_sent_to(upload):
    """What it still said is read, or else its end."""
    upload.node.close()
    upload.until(lambda: upload.reply.presentable)
    assert upload.reply.broken
