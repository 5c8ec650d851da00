"""The inference routes in one process: what a client hears, and what is counted.

The router is built as it is served, and not started; nodes are played
(`tests.router.web.inference.stage`).
"""

from __future__ import annotations

import json

import pytest

from router.model import Outcome
from tests.router.web.inference.stage import (
    DONE,
    Cut,
    PlayedNode,
    Stage,
    chunks,
    line,
    plain,
)

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
HI = chunks([line("hi"), DONE])
BROKEN = Cut(chunks([line("one "), line("two ")]).removesuffix(b"0\r\n\r\n"))
CUT = Cut()
ERROR = plain("500 Internal Server Error", {"error": "CUDA error: out of memory"})


@pytest.fixture
def played(tmp_path):
    """Return what makes a stage of nodes a, b, … with their replies."""
    stages = []

    def make(*replies, settings=""):
        named = zip("abc", replies, strict=False)
        nodes = {name: PlayedNode(*some) for name, some in named}
        stages.append(Stage(tmp_path, nodes, settings))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def counted(stage, name, **labels):
    return stage.router.base.registry.get_sample_value(name, labels) or 0.0


def test_stream(played):
    """The node's lines, and in the head who answered at which attempt."""
    answer = played([HI]).post("/api/chat", CHAT, "X-Request-Id: mine")
    assert (200, "hi") == (answer.status, answer.text)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    expected = {"Request-Id": "mine", "InferOps-Node": "a", "InferOps-Attempts": "1"}
    assert expected == {name: answer.headers[f"X-{name}"] for name in expected}


def test_whole_reply(played):
    """It goes out with its length, as the node wrote it."""
    body = {"model": "m", "response": "hi", "done": True, "eval_count": 2}
    stage = played([plain("200 OK", body)])
    answer = stage.post("/api/generate", {"model": "m", "prompt": "x", "stream": False})
    assert (200, body) == (answer.status, json.loads(answer.body))
    assert answer.headers["Content-Length"] == str(len(answer.body))


def ends(stage):
    """Return the counted replies of node a by why they ended."""
    registry = stage.router.base.registry
    (family,) = (f for f in registry.collect() if f.name == "inferops_replies")
    return {s.labels["reason"]: s.value for s in family.samples if s.value}


def test_why_replies_ended(played):
    """A stream and a whole reply, each by its node's word."""
    body = {"model": "m", "response": "hi", "done": True, "done_reason": "length"}
    stage = played([HI, plain("200 OK", body)])
    stage.post("/api/chat", CHAT)
    stage.post("/api/generate", {"model": "m", "prompt": "x", "stream": False})
    assert {"stop": 1, "length": 1} == ends(stage)


def test_a_stream_that_broke_off_is_cut(played):
    """On its node; the other one ends it by its own word."""
    stage = played([BROKEN], [HI])
    stage.post("/api/chat", {**CHAT, "tools": [{"type": "function"}]})
    assert {"cut": 1} == ends(stage)


@pytest.mark.parametrize("faults", [[CUT], [ERROR], [ERROR, ERROR]])
def test_next_node_before_the_first_byte(played, faults):
    """The client hears nothing of a node that failed but the number of attempts."""
    stage = played(*([fault] for fault in faults), [HI])
    answer = stage.post("/api/chat", CHAT)
    last = list(stage.nodes)[-1]
    assert (200, "hi") == (answer.status, answer.text)
    assert last == answer.headers["X-InferOps-Node"]
    assert str(len(faults) + 1) == answer.headers["X-InferOps-Attempts"]
    assert {1} == {len(node.asked) for node in stage.nodes.values()}


def test_a_request_that_ends_two_runners(played):
    """It is not sent to a third, whose streams it would end as well."""
    stage = played([CUT], [CUT], [HI])
    answer = stage.post("/api/chat", CHAT)
    assert 422 == answer.status
    assert [] == stage.nodes["c"].asked


def test_every_node_fails(played):
    """The last one's own words, and each slot is free again."""
    stage = played([ERROR], [ERROR])
    answer = stage.post("/api/chat", CHAT)
    assert 500 == answer.status
    assert b"CUDA error" in answer.body
    assert [0, 0] == [stage.router.dispatch.ledger.in_flight(name) for name in "ab"]


def test_broken_stream_that_may_not_go_on(played):
    """It ends with a frame of its protocol, which says why another node cannot."""
    stage = played([BROKEN], [HI])
    answer = stage.post("/api/chat", {**CHAT, "tools": [{"type": "function"}]})
    *text, last = answer.lines
    assert ["one ", "two "] == [each["message"]["content"] for each in text]
    assert "broke off in mid-stream" in last["error"]
    assert last["error"].endswith("; not continued: tools are in play")
    assert [] == stage.nodes["b"].asked


def test_refusal_of_the_request_is_passed_on(played):
    """Nodes of one build say the same: no other is asked."""
    wrong = plain("400 Bad Request", {"error": "invalid options: temperature"})
    stage = played([wrong], [wrong])
    answer = stage.post("/api/chat", CHAT)
    assert (400, "invalid options: temperature") == (
        answer.status,
        json.loads(answer.body)["error"],
    )


@pytest.mark.parametrize(
    ("fields", "headers", "status", "why"),
    [
        ({"model": 7}, (), 400, "model"),
        ({"model": ""}, (), 400, "model"),
        ({"model": "a b"}, (), 404, "model 'a b' not found"),
        (CHAT, ("X-InferOps-Priority: first",), 400, "X-InferOps-Priority"),
        (CHAT, ("X-InferOps-Picker: best",), 400, "X-InferOps-Picker"),
        (CHAT, ("X-Request-Timeout: soon",), 400, "X-Request-Timeout"),
        ({**CHAT, "pad": "x" * 3000}, (), 413, "the body is over 2048 bytes"),
    ],
)
def test_refused_at_the_door(played, fields, headers, status, why):
    """No node is asked, and the refusal names what is wrong."""
    stage = played([HI], settings="dispatch: {max_body_bytes: 2048}\n")
    answer = stage.post("/api/chat", fields, *headers)
    assert status == answer.status
    assert why in json.loads(answer.body)["error"]
    assert [] == stage.nodes["a"].asked


def test_time_limit(played):
    """A node that says nothing costs the client no more than its own limit."""
    answer = played([b""]).post("/api/chat", CHAT, "X-Request-Timeout: 0.2")
    assert (504, "deadline") == (answer.status, _code(answer))


def test_queue_is_full(played):
    """Who cannot even wait is told so at once."""
    stage = played([HI], settings="dispatch: {max_waiting: 0, default_slots: 1}\n")
    lease = stage.router.dispatch.ledger.take("a", "m:latest")
    answer = stage.post("/api/chat", CHAT)
    assert 429 == answer.status
    lease.done(Outcome.END)
    assert 200 == stage.post("/api/chat", CHAT).status


def test_shutting_down(played):
    """A request that comes then is sent elsewhere."""
    stage = played([HI])
    stage.router.web.inference.context.under_way.turn_away(Outcome.SHUTDOWN)
    answer = stage.post("/api/chat", CHAT)
    assert (503, "5") == (answer.status, answer.headers["Retry-After"])


def test_other_paths_are_flasks(played):
    """What is no inference route is answered behind it."""
    answer = played([HI]).post("/admin/nowhere", {})
    assert (404, True) == (answer.status, b"there is no such path" in answer.body)


def test_counts(played):
    """Each request once, with its outcome and the node that answered."""
    stage = played([HI])
    labels = {"route": "/api/chat", "model": "m:latest", "node": "a"}
    for _ in range(3):
        stage.post("/api/chat", CHAT)
    found = [
        sample
        for family in stage.router.base.registry.collect()
        for sample in family.samples
        if sample.name == "inferops_requests_total" and sample.value
    ]
    assert [3.0] == [sample.value for sample in found], labels
    assert {"m:latest", "a", "end"} <= set(found[0].labels.values())
    assert 0 == len(stage.router.web.inference.context.under_way)


def _code(answer) -> str:
    body = json.loads(answer.body)
    return body.get("code") or ("deadline" if "time limit" in body["error"] else "")
