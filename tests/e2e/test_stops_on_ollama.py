"""Where a stop string ends a continued text, on a real Ollama.

A cut between what a stop string leaves of a token and the line that says the end
cannot be made from outside. So the lines of a whole answer are taken, up to every
one of them, and continued by the router's own parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests

from router.failover.continuation.proof import AnswerSoFar, Splice, prove
from router.failover.continuation.request import OriginalRequest, parse_request
from router.failover.continuation.segment import Elapsed, Segment, SegmentFramer
from router.failover.continuation.shape import StreamShape
from router.failover.continuation.transcript import Transcript
from router.failover.continuation.ways import counting, first_request
from router.relay.framing import Framer, read_timings_of
from tests.harness import counting_model
from tests.harness.counting import request_of
from tests.harness.ollama import RealOllama, ollama_binary

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH"),
]

PATH = "/api/generate"
MODELS = {
    "counting": counting_model.FAST,
    "merging": counting_model.Shape(merging=True),
}
TOKENS = 5  # 104 to 108


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[RealOllama]:
    folder = tmp_path_factory.mktemp("stops")
    with RealOllama(folder, models=MODELS, cache=folder / "gguf") as node:
        yield node


def whole_lines(node: RealOllama, body: Mapping[str, Any]) -> list[bytes]:
    answer = requests.post(f"{node.url}{PATH}", json=body, timeout=60)
    return answer.content.splitlines(keepends=True)


def test_what_a_stop_string_leaves(node):
    """Ollama says what was before it in its token, and then that it is over."""
    body = request_of(PATH, "counting", TOKENS, options={"stop": ["06 1"]})
    texts = [json.loads(line)["response"] for line in whole_lines(node, body)]
    assert texts == [" 104", " 105", " 1", ""]


def test_what_may_become_a_stop_string_waits(node):
    """Nothing of one has gone out where the text goes on behind it."""
    body = request_of(PATH, "counting", TOKENS, options={"stop": ["05 106 2"]})
    texts = [json.loads(line)["response"] for line in whole_lines(node, body)]
    assert texts == [" 104", " 105 106 107", " 108", ""]


# Within a token, over two and three, at a token's edge, and none.
@pytest.mark.parametrize(
    ("model", "stop"),
    [
        *(("counting", s) for s in ("07", "6 10", "06 107 1", " 107", "x")),
        *(("merging", s) for s in ("6 10", "07")),
    ],
)
def test_ends_where_the_unbroken_one_does(node, model, stop):
    """Wherever a stream is cut, before its last line too, text and counters agree."""
    body = request_of(PATH, model, TOKENS, options={"stop": [stop]})
    *lines, last = whole_lines(node, body)
    original = parse_request(PATH, json.dumps(body).encode())
    whole, wanted = kept_of(lines).text(), json.loads(last)
    for cut in range(1, len(lines) + 1):
        kept = kept_of(lines[:cut])
        ended = continued(node, original, kept)
        assert whole == kept.text(), cut
        for name in ("done_reason", "eval_count", "prompt_eval_count", "context"):
            assert wanted[name] == ended[name], (cut, name)


def kept_of(lines: list[bytes]) -> Transcript:
    kept = Transcript(PATH)
    for line in lines:
        kept.add(line)
    return kept


def continued(
    node: RealOllama, original: OriginalRequest, kept: Transcript
) -> dict[str, Any]:
    """Go on as the router does, the text into `kept`; returns the last line."""

    def ask(path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = requests.post(f"{node.url}{path}", json=body, timeout=60)
        fields: dict[str, Any] = answer.json()
        return fields

    seam: Splice = prove(
        original, AnswerSoFar(kept.text(), kept.last(), kept.pieces), ask
    )
    leg = Segment(
        seam, StreamShape(original, kept.first), kept, Elapsed(0, 0), lambda: 1.0
    )
    gate = SegmentFramer(Framer(sse=False), leg)
    answer = requests.post(f"{node.url}{seam.path}", json=seam.body, timeout=60)
    data = gate.feed(answer.content)
    assert gate.failure is None
    if leg.ending is not None:  # its counters wait for the prompt's count
        path, body = first_request(original)
        counted = read_timings_of(ask(path, counting(body)))
        data += leg.close(counted.prompt_tokens)
    ended: dict[str, Any] = json.loads(data.splitlines()[-1])
    return ended
