"""Only whole lines go out, and a line that says the node failed stays in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import DoneReason, Timings
from router.relay.framing import Framer, is_sse, message_in, read_timings

NDJSON = (
    b'{"model":"m","response":"caf\xc3\xa9","done":false}\n'
    b'{"model":"m","response":" say \\"model\\":\\"\\" {\\"error\\"","done":false}\n'
    b'{"model":"m","response":"","done":true,"done_reason":"stop",'
    b'"load_duration":5,"prompt_eval_count":7,"prompt_eval_duration":2000000000,'
    b'"eval_count":4,"eval_duration":1000000000}\n'
)
SSE = (
    b'data: {"model":"m","choices":[{"delta":{"content":"a"}}]}\n\n'
    b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,'
    b'"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


def feed(gate: Framer, raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(raw) + 1) for c in cuts), len(raw)]
    return [gate.feed(raw[a:b]) for a, b in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 10_000), max_size=10)


@given(cuts, st.sampled_from([False, True]))
def test_whole_lines_only(cuts, sse):
    """Wherever the bytes are cut, each piece sent on ends where a line ends."""
    raw, end = (SSE, b"\n\n") if sse else (NDJSON, b"\n")
    gate = Framer(sse=sse)
    pieces = feed(gate, raw, cuts)
    assert all(piece.endswith(end) for piece in pieces if piece)
    assert raw == b"".join(pieces)
    assert gate.finished
    assert gate.failure is None


def test_ndjson_timings():
    """Ollama's last line tells counts and nanoseconds."""
    gate = Framer(sse=False)
    feed(gate, NDJSON, [])
    assert Timings(7, 4, 2.0, 1.0, 5e-9, 0.0, DoneReason.STOP) == gate.timings()
    assert gate.timings().tokens_per_second == 4.0


def test_sse_timings():
    """OpenAI's usage stands before the end mark."""
    gate = Framer(sse=True)
    feed(gate, SSE, [60, 200])
    assert Timings(prompt_tokens=3, generated_tokens=2) == gate.timings()


def test_error_line_is_held():
    """What came before the error goes out; the error and what follows do not."""
    gate = Framer(sse=False)
    out = gate.feed(b'{"response":"a","done":false}\n{"error":"unexpected EOF"}\n')
    assert out == b'{"response":"a","done":false}\n'
    assert gate.failure == "unexpected EOF"
    assert not gate.finished


def test_error_alone_is_held():
    """An error as the very first line leaves nothing to send."""
    gate = Framer(sse=False)
    assert gate.feed(b'{"error":"boom"}\n') == b""
    assert gate.failure == "boom"


def test_dead_runner_on_v1_is_held():
    """The delta with an empty model is the only sign of a dead runner."""
    gate = Framer(sse=True)
    alive = b'data: {"model":"m","choices":[{"delta":{"content":"1"}}]}\n\n'
    dead = b'data: {"model":"","choices":[{"delta":{"content":""}}]}\n\n'
    assert gate.feed(alive + dead) == alive
    assert gate.failure == "the model runner has stopped"


def test_error_event_is_held():
    """An error event on /v1 is a failure with its own text."""
    gate = Framer(sse=True)
    assert gate.feed(b'data: {"error":{"message":"no memory"}}\n\n') == b""
    assert gate.failure == "no memory"


@pytest.mark.parametrize(
    ("sse", "raw"),
    [
        (False, b'{"response":"a","done":false}\n'),
        (False, NDJSON + b'{"half'),
        (True, SSE.removesuffix(b"data: [DONE]\n\n")),
    ],
    ids=["no last line", "half a line behind it", "no end mark"],
)
def test_unfinished(sse, raw):
    """A clean close without the protocol's own end is no end."""
    gate = Framer(sse=sse)
    gate.feed(raw)
    assert not gate.finished


@pytest.mark.parametrize(
    "event",
    [
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    ],
    ids=["anthropic", "responses"],
)
def test_other_ends(event):
    """Anthropic's and the responses API's last events are ends as well."""
    gate = Framer(sse=True)
    gate.feed(b'event: x\ndata: {"model":"m"}\n\n' + event)
    assert gate.finished


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/x-ndjson", False),
        ("text/event-stream; charset=utf-8", True),
        ("application/json; charset=utf-8", None),
        ("", None),
    ],
)
def test_kinds_of_reply(content_type, kind):
    """The content type tells a stream from a whole reply."""
    assert kind is is_sse(content_type)


@pytest.mark.parametrize("reply", [b"", b"[]", b"null", b"{", b'{"usage":null}'])
def test_replies_without_counters(reply):
    """What tells nothing counts nothing, and has no speed."""
    assert Timings() == read_timings(reply)
    assert read_timings(reply).tokens_per_second is None
    assert message_in(reply) == ""


MIB = 1024 * 1024
END = (
    b'"total_duration":9000000000,"load_duration":5,"prompt_eval_count":7,'
    b'"prompt_eval_duration":2000000000,"eval_count":4,"eval_duration":1000000000}'
)
CONTEXT = b'"context":[' + b"12345," * 200_000 + b"1]"


def test_a_long_last_line():
    """A line that is too long to parse is still seen to be the last, and read."""
    gate = Framer(sse=False)
    line = b'{"response":"","done":true,"done_reason":"stop",' + CONTEXT + b"," + END
    gate.feed(b'{"response":"a","done":false}\n')
    for at in range(0, len(line), 65_536):
        assert not gate.feed(line[at : at + 65_536])
    assert line + b"\n" == gate.feed(b"\n")
    assert gate.finished
    assert (7, 4) == (gate.timings().prompt_tokens, gate.timings().generated_tokens)


@pytest.mark.parametrize(
    "line",
    [
        b'{"response":"' + b"a" * MIB + b'\\"done\\":true","done":false}',
        b'{"done":false,"x":[' + b"[]," * MIB + b"[]]}",
    ],
    ids=["a text that says so", "many values"],
)
def test_a_long_line_that_is_not_the_last(line):
    """A text that speaks of the end, or a great many values, is no end."""
    gate = Framer(sse=False)
    assert gate.feed(line + b"\n")
    assert not gate.finished


@pytest.mark.parametrize(
    ("reply", "counts"),
    [
        (b'{"embeddings":[[' + b"0.125," * 50_000 + b"1]]," + END, (7, 4)),
        (
            b'{"data":"' + b"a" * MIB + b'","usage":{"prompt_tokens":3,'
            b'"completion_tokens":2,"total_tokens":5}}',
            (3, 2),
        ),
        (b'{"eval_count":4,"x":"' + b"a" * MIB + b'"}', (0, 0)),
        (b'{"x":[' + b"[]," * MIB + b'[]],"eval_count":' + b"9" * 99 + b"}", (0, 0)),
    ],
    ids=["embeddings", "usage", "not at the end", "no number"],
)
def test_counters_of_a_long_reply(reply, counts):
    """Of a long reply only the end is read, which is where Ollama has them."""
    timings = read_timings(reply)
    assert counts == (timings.prompt_tokens, timings.generated_tokens)


def test_a_long_error_has_no_words():
    """An error of a megabyte is nothing that Ollama says."""
    assert message_in(b'{"error":"' + b"a" * MIB + b'"}') == ""


@pytest.mark.parametrize("size", [1000, 70_000, 300_000, 3_000_000])
def test_a_last_line_of_any_length(size):
    """Its end is known by its beginning, where Ollama says `done` before `context`."""
    done = b'"done":true,"done_reason":"stop"'
    counts = b'"eval_count":7,"prompt_eval_count":3}'
    line = b'{"response":"",%b,"context":[%b1],%b\n' % (done, b"1," * size, counts)
    for blocks in ([line], [b'{"response":"%b"}\n' % (b"a" * size), line]):
        gate = Framer(sse=False)
        gate.feed(b"".join(blocks))
        assert gate.finished
        assert gate.timings().generated_tokens == 7
    gate = Framer(sse=True)
    gate.feed(b"data: {}\n\nevent: response.completed\ndata: {%b}\n\n" % (b"a" * size))
    assert gate.finished
    gate = Framer(sse=True)
    gate.feed(b"data: {%b}\n\ndata: [DONE]\n\n" % (b"a" * size))
    assert gate.finished
