"""Nothing that is done in the event loop with a stranger's bytes takes 50 ms of it.

CPU time of this thread, the best of three: the bound is the point, and a busy machine
must not decide it.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from router.clients.http_json import PollError, _parsed
from router.errors import InferOpsError
from router.failover.continuation.request import parse_request, refusal
from router.failover.repetition import completed
from router.failover.verdict import judge
from router.model import canonical, is_model_name
from router.relay.fields import _WANTED, read_ask
from router.relay.framing import Framer, message_in, read_timings
from router.relay.http1 import ProtocolError, split_head
from router.relay.protocols import ROUTES
from router.text.json_scan import load, members

MOST_SECONDS = 0.05
MIB = 1024 * 1024
CHAT = "/api/chat"


# Start, what is repeated, and end: each dear to read in another way.
SHAPES = {
    "lists": (b'{"model":"m","messages":[', b"[],", b"[]]}"),
    "objects": (b'{"model":"m","messages":[', b'{"":{}},', b"{}]}"),
    "numbers": (b'{"model":"m","input":[', b"1e9,", b"1]}"),
    "strings": (b'{"format":"","input":[', b'"",', b"1]}"),
    "names": (b'{"format":"",', b'"t":"",', b'"model":"m"}'),
    "escapes": (b'{"model":"m","prompt":"', b'\\"t', b'"}'),
    "signs": (b'{"model":"m","prompt":"', b'\\"tool\\"', b'"}'),
    "text": (b'{"model":"m","prompt":"', b"1,2,", b'"}'),
    "levels": (b'{"model":', b"[", b""),
    "cut": (b'{"model":"', b"a", b""),
    "space": (b"", b" ", b'{"model":"m"}'),
    "emoji": ('{"model":"\U0001f600'.encode(), b"a", b'"}'),
}


def shaped(name, size):
    """Make a text of about this size."""
    start, unit, end = SHAPES[name]
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


# As large as each is read in the event loop: beyond it a step is left out, or made
# where it holds up nobody.
SIZES = (60 * 1024, 500 * 1024, 4 * MIB)
TEXTS = [
    pytest.param(shaped(name, size), id=f"{name}-{size // 1024}")
    for size in SIZES
    for name in SHAPES
]


def cost(call):
    """Return the CPU seconds of the best of three; errors of ours are answers too."""
    costs = []
    for _ in range(3):
        begun = time.thread_time()
        with contextlib.suppress(InferOpsError, ValueError, PollError):
            call()
        costs.append(time.thread_time() - begun)
    return min(costs)


@pytest.mark.parametrize("text", TEXTS)
def test_bodies(text):
    """Reading a request, and whether it may be continued."""
    assert cost(lambda: load(text, _WANTED)) < MOST_SECONDS

    def offloaded(call):
        return {}  # what a native thread does is not counted

    assert cost(lambda: read_ask(ROUTES[CHAT], text, offloaded)) < MOST_SECONDS
    assert cost(lambda: refusal(CHAT, text)) < MOST_SECONDS
    if refusal(CHAT, text) is None:
        assert cost(lambda: parse_request(CHAT, text)) < MOST_SECONDS


@pytest.mark.parametrize("text", TEXTS)
def test_answers(text):
    """Counters, an error's words, and a stream's lines."""
    assert cost(lambda: read_timings(text)) < MOST_SECONDS
    assert cost(lambda: message_in(text)) < MOST_SECONDS
    for sse, line in ((False, text + b"\n"), (True, b"data: " + text + b"\n\n")):

        def pass_on(sse=sse, line=line):
            gate = Framer(sse=sse)
            gate.feed(line)
            return gate.finished, gate.timings()

        assert cost(pass_on) < MOST_SECONDS


@pytest.mark.parametrize("text", TEXTS)
def test_polls(text):
    """What a node answers to a poll."""
    assert cost(lambda: _parsed(200, text)) < MOST_SECONDS


@pytest.mark.parametrize("sse", [False, True], ids=["lines", "events"])
def test_the_end_of_a_long_line(sse):
    """The longest line that is taken is let through, and looked at, in time."""
    line = b'data: {"x":[' + b"[]," * (5 * MIB) + b'1],"done":true}\n\n'
    line = line if sse else line[6:-1]
    gates = []

    def held():
        gates.append(gate := Framer(sse=sse))
        for at in range(0, len(line) - 65_536, 65_536):
            gate.feed(line[at : at + 65_536])
        return line[at + 65_536 :]

    rests = [held() for _ in range(3)]
    assert cost(lambda: gates[0].feed(rests.pop()) and gates.pop(0)) < MOST_SECONDS
    gates.append(gate := Framer(sse=sse))
    gate.feed(line)
    assert cost(lambda: (gate.finished, gate.timings())) < MOST_SECONDS


def test_a_piece_of_a_long_line():
    """However much of a line is held, another piece of it costs the same."""
    gate = Framer(sse=True)
    for _ in range(200):
        gate.feed(b"a" * 65_536)
    assert cost(lambda: gate.feed(b"a" * 65_536)) < MOST_SECONDS


@pytest.mark.parametrize(
    "head",
    [b"A: b\r\n" * 10_000, b"A" * 65_000, b"\r\n" * 32_000, b"A: " + b"\xff" * 65_000],
    ids=["many", "no end", "empty", "one"],
)
def test_heads_of_a_node(head):
    """A head as large as one may be."""

    def read():
        with contextlib.suppress(ProtocolError):
            split_head(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")

    assert cost(read) < MOST_SECONDS


@pytest.mark.parametrize(
    "name", ["a" * 60 * MIB, "a/" * MIB, "a:" * 320, "/" * 640, "x://" * 160, "-" * 640]
)
def test_names(name):
    """A name of whatever length and shape."""
    assert cost(lambda: (canonical(name), is_model_name(name))) < MOST_SECONDS


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_read_elsewhere_is_soon_over(name):
    """A native thread's whole work with the largest body is bounded as well."""
    text = shaped(name, 60 * MIB)
    assert cost(lambda: members(text, _WANTED)) < 5


@pytest.mark.parametrize("name", SHAPES)
def test_the_largest_reply(name):
    """One that was collected as a whole is judged by its ends."""
    path, text = "/api/generate", shaped(name, 100 * MIB)
    assert cost(lambda: judge(path, 200, "application/json", text)) < MOST_SECONDS
    assert cost(lambda: completed(path, text)) < MOST_SECONDS
    assert cost(lambda: read_timings(text)) < MOST_SECONDS
