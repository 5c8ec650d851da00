"""The text so far, in the four shapes, however its bytes were cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.failover.continuation.transcript import MAX_KEPT_BYTES, Transcript
from router.relay.framing import Framer
from tests.harness.counting import PATHS


def shaped(path: str, text: str) -> bytes:
    """One line as Ollama writes it: compact, and `<` escaped as Go does."""
    if path == "/api/generate":
        fields = {"model": "m", "response": text, "done": False}
    elif path == "/api/chat":
        message = {"role": "assistant", "content": text}
        fields = {"model": "m", "message": message, "done": False}
    else:
        choice: dict[str, object] = {"index": 0, "finish_reason": None}
        choice |= {"text": text} if path == "/v1/completions" else {}
        if path == "/v1/chat/completions":
            choice["delta"] = {"role": "assistant", "content": text}
        fields = {"id": "x", "choices": [choice]}
    line = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    line = line.replace("<", "\\u003c")
    return (f"data: {line}\n\n" if path.startswith("/v1/") else f"{line}\n").encode()


texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"))
)


@pytest.mark.parametrize("path", PATHS)
@given(pieces=texts, cut=st.floats(0, 1), size=st.integers(1, 700))
def test_exactly_what_went_out(path, pieces, cut, size):
    """Whatever a broken connection let through is kept, to the character.

    The stream is cut anywhere: in a chunk, in a line, in a character.
    """
    data = b"".join(shaped(path, piece) for piece in pieces)
    data = data[: int(len(data) * cut)]
    gate, transcript, sent = Framer(sse=path.startswith("/v1/")), Transcript(path), b""
    gate.transcript = transcript
    for at in range(0, len(data), size):
        sent += gate.feed(data[at : at + size])
    whole = sent.count(b"\n\n" if path.startswith("/v1/") else b"\n")
    wanted = pieces[:whole]
    assert transcript.reads <= transcript.lines == whole
    assert transcript.settle() is None
    assert transcript.reads <= transcript.lines == whole
    assert "".join(wanted) == transcript.text()
    assert transcript.pieces == len([piece for piece in wanted if piece])
    assert next(filter(None, reversed(wanted)), "") == transcript.last()


def test_compacts_as_it_goes():
    """What is kept is the text, not the lines around it."""
    transcript = Transcript("/api/chat")
    for _ in range(1000):
        transcript.add(shaped("/api/chat", " 1"))
    assert sum(map(len, transcript.blocks)) < 32_768
    assert transcript.text() == " 1" * 1000
    assert transcript.first == shaped("/api/chat", " 1")


def test_bound():
    """A text over the limit is let go, and says so."""
    transcript = Transcript("/api/generate")
    transcript.add(shaped("/api/generate", "x" * MAX_KEPT_BYTES))
    transcript.add(shaped("/api/generate", "y"))
    assert transcript.settle() == f"the text is over {MAX_KEPT_BYTES} bytes"
    assert transcript._texts == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"response":"","thinking":"hm","done":false}\n', "thinking was emitted"),
        (b'{"response":"","tool_calls":[{}],"done":false}\n', "a tool was called"),
        (b'{"response":"a","logprobs":[{}],"done":false}\n', "log probabilities"),
        (b'{"response":"\\ufffd","done":false}\n', "the text is not valid UTF-8"),
        (b'{"other":"a"}\n', "a line is not understood"),
        (b"not JSON\n", "a line is not understood"),
    ],
)
def test_what_was_emitted_may_forbid_it(line, why):
    """What must not be continued is seen in the lines themselves."""
    transcript = Transcript("/api/generate")
    transcript.add(shaped("/api/generate", '"thinking":"no, a text"'))
    assert transcript.settle() is None
    transcript.add(line)
    assert (transcript.settle() or "").startswith(why)


def test_openai_end_that_was_told_already():
    """A finish reason that went out is not told twice; usage has no text."""
    transcript = Transcript("/v1/completions")
    transcript.add(shaped("/v1/completions", " 1"))
    transcript.add(b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n')
    transcript.add(b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n')
    assert (None, " 1", "length") == (
        transcript.settle(),
        transcript.text(),
        transcript.reason,
    )
