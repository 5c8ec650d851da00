"""A later segment's lines: in the first one's shape, with the counters of all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from router.failover.continuation.proof import Splice
from router.failover.continuation.request import parse_request
from router.failover.continuation.segment import Elapsed, Segment, SegmentFramer
from router.failover.continuation.shape import StreamShape
from router.failover.continuation.transcript import Transcript
from router.failover.continuation.ways import Strategy
from router.model import Timings
from router.relay.framing import Framer
from tests.harness.counting import PATHS
from tests.router.failover.continuation.test_transcript import shaped

SEAM = Splice(
    Strategy.RAW, "/api/generate", {}, None, 5, Timings(11, 1, 0.5, 0, 2.0), None
)
LAST = {"done": True, "done_reason": "stop", "eval_count": 3, "eval_duration": 10**9}


def native(text, **more):
    fields = {"model": "n", "created_at": "t2", "response": text, "done": False}
    return json.dumps({**fields, **more}).encode() + b"\n"


def gate_of(path, usage=True, splice=SEAM):
    asked = {"model": "m", "stream_options": {"include_usage": usage}}
    original = parse_request(path, json.dumps(asked).encode())
    transcript = Transcript(path)
    transcript.add(shaped(path, " 1"))
    transcript.settle()
    shape = StreamShape(original, transcript.first)
    segment = Segment(splice, shape, transcript, Elapsed(100.0, 4.0), lambda: 110.0)
    return SegmentFramer(Framer(sse=False), segment), transcript


def fields_of(data):
    lines = [x.removeprefix(b"data: ") for x in data.split(b"\n") if x]
    return [json.loads(x) for x in lines if x != b"[DONE]"]


@pytest.mark.parametrize("path", PATHS)
def test_pieces_look_like_the_first(path):
    """A line of a later segment has the fields, ids and names of the first one's."""
    gate, transcript = gate_of(path)
    data = gate.feed(native(" 2") + native(" 3"))
    (first,) = fields_of(shaped(path, " 2"))
    for line in fields_of(data):
        assert line.pop("created_at", "t2") == "t2"
        assert [*line] == [*first]
        assert line.get("id") == first.get("id")
    assert transcript.text() == " 1 2 3"
    assert transcript.pieces == 3


def test_native_end():
    """Ollama's last line counts all of the answer, and has the last context."""
    gate, _ = gate_of("/api/generate")
    (line,) = fields_of(gate.feed(native("", context=[1, 2], **LAST)))
    assert line == {
        "model": "m",
        "created_at": "t2",
        "response": "",
        "done": True,
        "done_reason": "stop",
        "context": [1, 2],
        "total_duration": 10 * 10**9,
        "load_duration": 2 * 10**9,
        "prompt_eval_count": 11,
        "prompt_eval_duration": 5 * 10**8,
        "eval_count": 8,
        "eval_duration": 5 * 10**9,
    }
    assert gate.finished


UNCOUNTED = replace(SEAM, first=None)
READ = {"prompt_eval_count": 16, "prompt_eval_duration": 8 * 10**8, **LAST}


@pytest.mark.parametrize(
    ("counted", "prompt", "generated"),
    [(11, 11, 8), (9, 9, 10), (12, 12, 8), (None, 11, 8)],
    ids=["as seen", "tokens of several pieces", "tokens that merge", "not counted"],
)
def test_end_that_waits_for_the_prompts_count(counted, prompt, generated):
    """Only its last line needs it: the client has the text, and waits for no count."""
    gate, transcript = gate_of("/api/generate", splice=UNCOUNTED)
    data = gate.feed(native(" 2") + native("", **READ))
    assert [" 2"] == [each["response"] for each in fields_of(data)]
    assert (True, " 1 2") == (gate.finished, transcript.text())
    (line,) = fields_of(gate._segment.close(counted))
    assert (prompt, generated) == (line["prompt_eval_count"], line["eval_count"])
    assert line["prompt_eval_duration"] == round(8 * 10**8 * prompt / 16)
    assert (line["done_reason"], line["total_duration"]) == ("stop", 10 * 10**9)
    assert gate._segment.close(counted) == b""


@pytest.mark.parametrize("usage", [True, False])
def test_openai_end_waits_only_to_tell_usage(usage):
    """Where no counters were asked for, none are waited for."""
    gate, _ = gate_of("/v1/chat/completions", usage, UNCOUNTED)
    data = gate.feed(native(" 2", **READ))
    assert data.endswith(b"data: [DONE]\n\n") is not usage
    whole = data + gate._segment.close(11)
    assert whole.endswith(b"data: [DONE]\n\n")
    told = [each["usage"]["total_tokens"] for each in fields_of(whole)[2:]]
    assert told == ([19] if usage else [])


@pytest.mark.parametrize("usage", [True, False])
def test_openai_end(usage):
    """OpenAI's end is reason, usage where it was asked for, and `[DONE]`."""
    gate, _ = gate_of("/v1/chat/completions", usage)
    data = gate.feed(native(" 2", **LAST))
    assert data.endswith(b"data: [DONE]\n\n")
    text, reason, *rest = fields_of(data)
    assert text["choices"][0]["delta"]["content"] == " 2"
    assert reason["choices"][0]["finish_reason"] == "stop"
    told = [each["usage"] for each in rest]
    wanted = {"prompt_tokens": 11, "completion_tokens": 8, "total_tokens": 19}
    assert told == ([wanted] if usage else [])


@pytest.mark.parametrize(
    "bad",
    [b"not JSON\n", b'{"x":1}\n', native("", thinking="hm"), native(5)],
    ids=["not JSON", "no text", "thinking", "text is a number"],
)
def test_line_that_cannot_be_read_ends_the_leg(bad):
    """What came before it goes out and is kept; nothing behind it does."""
    gate, transcript = gate_of("/api/chat")
    data = gate.feed(native(" 2") + bad + native(" 3"))
    assert len(fields_of(data)) == 1
    assert gate.failure
    assert transcript.text() == " 1 2"


AGAIN = replace(SEAM, again=" 1")


@pytest.mark.parametrize(
    ("lines", "new", "last"),
    [
        ([" 1", " 2"], [" 2"], " 2"),
        ([" ", "1", " 2"], [" 2"], " 2"),
        ([" 130", " 131"], ["30", " 131"], " 131"),
        ([" 130"], ["30"], " 130"),
        ([" "], [], " 1"),
    ],
    ids=["alike", "in two pieces", "within a token", "cut behind it", "cut in it"],
)
def test_what_is_said_again_is_left_out(lines, new, last):
    """The client hears only what it has not; the next one begins at an edge again."""
    gate, transcript = gate_of("/api/generate", splice=AGAIN)
    data = gate.feed(b"".join(native(each) for each in lines))
    assert new == [each["response"] for each in fields_of(data)]
    assert (" 1" + "".join(new), last) == (transcript.text(), transcript.last())


@pytest.mark.parametrize(
    "lines",
    [native(" 2"), native(" ") + native("2"), native("", **LAST)],
    ids=["another token", "another in its middle", "the end"],
)
def test_leg_that_strays(lines):
    """One that says something else ends before the client hears of it."""
    gate, transcript = gate_of("/api/generate", splice=AGAIN)
    assert gate.feed(lines) == b""
    assert gate.failure
    assert gate._segment.strayed
    assert transcript.text() == " 1"


def test_end_that_a_stop_string_made():
    """Where the piece is said again and then the end, only the end goes out."""
    gate, _ = gate_of("/api/generate", splice=AGAIN)
    (line,) = fields_of(gate.feed(native(" 1") + native("", **LAST)))
    assert ("", "stop", 8) == (
        line["response"],
        line["done_reason"],
        line["eval_count"],
    )


def test_rest_of_a_line_is_taken_over():
    """A line of which the first gate had a part is whole in the second."""
    before = Framer(sse=False)
    whole = native(" 2")
    before.feed(whole[:9])
    gate, _ = gate_of("/api/generate")
    after = SegmentFramer(before, gate._segment)
    assert [x["response"] for x in fields_of(after.feed(whole[9:]))] == [" 2"]
