"""Each way with its proof, and what is left to generate."""

from __future__ import annotations

import json

import pytest

from router.errors import CannotContinueError
from router.failover.continuation.proof import AnswerSoFar, prove
from router.failover.continuation.request import parse_request
from router.failover.continuation.ways import Strategy
from tests.router.failover.continuation.stage import TableNode, tokens

TEXT = " 104 105"
SAID = AnswerSoFar(TEXT, " 105", 2)
USER = {"role": "user", "content": "count 102 103"}
CHAT = {"model": "m", "messages": [USER]}
PROMPT = {"model": "m", "prompt": "count 102 103"}


def original(path, fields, **more):
    return parse_request(path, json.dumps({**fields, **more}).encode())


@pytest.mark.parametrize(
    ("path", "fields", "node", "way"),
    [
        ("/api/chat", CHAT, TableNode(), Strategy.MESSAGE),
        ("/v1/chat/completions", CHAT, TableNode(), Strategy.MESSAGE),
        ("/api/chat", CHAT, TableNode(closes="<end>"), Strategy.TEMPLATE),
        ("/v1/chat/completions", CHAT, TableNode(closes="<end>"), Strategy.TEMPLATE),
        ("/api/chat", CHAT, TableNode(closes="<end>", adds="Be kind. "), Strategy.RAW),
        ("/api/generate", PROMPT, TableNode(), Strategy.TEMPLATE),
        ("/v1/completions", PROMPT, TableNode(), Strategy.TEMPLATE),
        ("/api/generate", PROMPT, TableNode(adds="Be kind. "), Strategy.RAW),
        ("/api/generate", {**PROMPT, "raw": True}, TableNode(), Strategy.RAW),
        ("/api/generate", PROMPT, TableNode(debugs=False), Strategy.RAW),
    ],
    ids=[
        "open template",
        "open template, OpenAI",
        "closed template",
        "closed template, OpenAI",
        "closed, and the Modelfile adds",
        "generate",
        "completions",
        "the Modelfile adds",
        "raw itself",
        "no rendering on the node",
    ],
)
def test_first_way_that_holds(path, fields, node, way):
    """The ways are tried in order, and the one whose proof holds is taken."""
    splice = prove(original(path, fields), SAID, node)
    assert way is splice.way
    assert splice.sent == 2
    if way is Strategy.MESSAGE:
        assert splice.body["messages"][-1] == {"role": "assistant", "content": TEXT}
    else:
        assert splice.body["prompt"] == "count 102 103" + TEXT


def test_clients_own_start_of_the_answer_goes_on():
    """An assistant message that the client left open is made longer."""
    begun = {"role": "assistant", "content": "So:"}
    splice = prove(
        original("/api/chat", CHAT, messages=[USER, begun]), SAID, TableNode()
    )
    assert splice.body["messages"] == [USER, {**begun, "content": "So:" + TEXT}]


def test_doubled_start_is_stripped():
    """A textual start that only a normal prompt loses is taken off a raw one."""
    node = TableNode(bos="<s>", closes="<end>", adds="Be kind. ")
    splice = prove(original("/api/chat", CHAT), SAID, node)
    assert splice.body["prompt"] == "count 102 103" + TEXT


GENERATIONS = [
    ("/api/chat", CHAT, {}, "", 0),
    ("/api/chat", CHAT, {"num_predict": 9}, "", 0),
    ("/v1/chat/completions", CHAT, {}, "", 0),
    ("/api/generate", PROMPT, {}, "", 0),
    ("/v1/completions", PROMPT, {}, "", 0),
    ("/api/generate", {**PROMPT, "raw": True}, {}, "", 2),
    ("/api/chat", CHAT, {"num_predict": 2}, "", 2),
    ("/api/chat", CHAT, {}, "num_predict 9", 0),
    ("/api/chat", CHAT, {"num_predict": 9}, 'stop "<|end|>"', 0),
    ("/api/chat", CHAT, {"num_predict": 9}, 'stop " 1"', 2),
]


@pytest.mark.parametrize(
    ("path", "fields", "options", "parameters", "counted"),
    GENERATIONS,
    ids=[
        "open template",
        "a limit",
        "OpenAI",
        "a template that passes on",
        "completions",
        "raw: nothing else shows a doubled start",
        "the limit is reached",
        "the model's own limit",
        "a control token",
        "tokens that a stop string may have held back",
    ],
)
def test_what_is_counted_before_the_leg(path, fields, options, parameters, counted):
    """Each count is a generation that the client waits for: none where one will do."""
    node = TableNode(parameters=parameters)
    more = {"options": options} if options else {}
    splice = prove(original(path, fields, **more), SAID, node)
    assert counted == node.generations
    assert (splice.first is None) == (counted == 0)


def test_text_beyond_ascii_is_counted():
    """A character may be several tokens; only where there is a limit does it matter."""
    said, node = AnswerSoFar(" hé", "é", 2), TableNode()
    assert prove(original("/api/chat", CHAT), said, node).first is None
    limited = original("/api/chat", CHAT, options={"num_predict": 9})
    assert prove(limited, said, node).first is not None


@pytest.mark.parametrize(
    ("start", "counted"),
    [("<s>", True), ("<|new_start|>", True), ("[BOS]", True), ("<|im_start|>", False)],
)
def test_what_may_be_a_start_is_counted(start, counted):
    """A name in brackets may be one that only some prompts lose; a turn's is none."""
    node = TableNode(closes="<end>")
    asked = {"role": "user", "content": f"{start}count 102 103"}
    splice = prove(original("/api/chat", CHAT, messages=[asked]), SAID, node)
    assert (Strategy.TEMPLATE, counted) == (splice.way, splice.first is not None)


def test_renderings_are_asked_for_together():
    """With the model, at one time: none waits for another."""
    node, batches = TableNode(closes="<end>"), []

    def together(questions):
        batches.append([path for path, _ in questions])
        return [node(*each) for each in questions]

    assert (
        Strategy.TEMPLATE
        is prove(original("/api/chat", CHAT), SAID, node, together).way
    )
    assert batches == [["/api/show", "/api/chat", "/api/chat"]]
    assert node.asked == ["/api/show", "/api/chat", "/api/chat", "/api/generate"]


@pytest.mark.parametrize(
    ("asked", "parameters", "pieces", "left"),
    [
        ({"num_predict": 10}, "", 2, 8),
        ({"num_predict": 2}, "", 2, 0),
        ({"num_predict": 1}, "", 2, 0),
        ({"num_predict": 0}, "", 2, None),
        ({"num_predict": -1}, "num_predict    9", 2, None),
        ({}, "", 2, None),
        ({}, 'stop  "<end>"\nnum_predict                    9', 2, 7),
        ({"num_predict": 10}, "", 5, 5),
    ],
    ids=[
        "limit",
        "reached exactly",
        "passed",
        "0 is none",
        "negative is none",
        "no limit",
        "the model's own",
        "more pieces than were counted",
    ],
)
def test_tokens_left(asked, parameters, pieces, left):
    """What is left is what was asked for less what the client has."""
    node = TableNode(parameters=parameters)
    splice = prove(
        original("/api/chat", CHAT, options=asked),
        AnswerSoFar(TEXT, " 105", pieces),
        node,
    )
    assert left == splice.left
    given = splice.body["options"].get("num_predict")
    assert given == (asked.get("num_predict") if left is None else left)


def test_small_context_counts_by_pieces():
    """Where the window cuts the prompt, the count says less than was sent."""
    node = TableNode(window=4)
    splice = prove(original("/api/chat", CHAT, options={"num_predict": 9}), SAID, node)
    assert (2, 7) == (splice.sent, splice.left)


READ = list(range(tokens("count 102 103" + TEXT)))


@pytest.mark.parametrize(
    ("node", "limit", "context"),
    [
        (TableNode(), 2, READ),
        (TableNode(says="6"), 2, READ),
        (TableNode(says=""), 2, READ),
        (TableNode(samples=True), 2, None),
        (TableNode(), 3, None),
    ],
    ids=["a token", "one that merges", "an end", "sampled anew", "goes on"],
)
def test_context_for_an_answer_that_ends_here(node, limit, context):
    """The ids are those of the text up to the cut, without what only counted."""
    asked = original("/api/generate", PROMPT, options={"num_predict": limit})
    assert context == prove(asked, SAID, node).context


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (TableNode(modelfile="FROM x\nPARSER harmony"), "the model has a parser"),
        (TableNode(debugs=False, template="{{ if .System }}x{{ end }}"), "the node"),
    ],
)
def test_refused(node, why):
    """What cannot be proven is not continued, and says why."""
    with pytest.raises(CannotContinueError, match=why):
        prove(original("/api/generate", PROMPT), SAID, node)


def test_openai_defaults_go_along():
    """A segment on `/api` samples as `/v1` did, whatever the Modelfile says."""
    asked = original("/v1/chat/completions", CHAT, stop="x", seed=7, max_tokens=9)
    splice = prove(asked, SAID, TableNode())
    wanted = {"temperature": 1.0, "top_p": 1.0, "stop": ["x"], "seed": 7}
    assert splice.body["options"] == wanted | {"num_predict": 8}


@pytest.mark.parametrize(
    ("fields", "parameters", "again"),
    [
        ({}, "", ""),
        ({"options": {"stop": ["05 1"]}}, "", " 105"),
        ({}, 'stop                           "05 1"', " 105"),
        ({}, 'stop                           "<|im_end|>"', ""),
        ({"options": {"stop": []}}, 'stop                           "05 1"', ""),
    ],
    ids=["no stop", "the request's", "the model's", "a control token", "switched off"],
)
def test_where_a_stop_may_have_ended_the_text(fields, parameters, again):
    """The segment begins a piece earlier, and counts from there."""
    asked = original("/api/chat", CHAT, **fields)
    splice = prove(asked, SAID, TableNode(parameters=parameters))
    text = TEXT.removesuffix(again)
    assert (again, 1 if again else 2) == (splice.again, splice.sent)
    assert splice.body["messages"][-1] == {"role": "assistant", "content": text}
