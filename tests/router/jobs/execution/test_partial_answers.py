"""Texts of items that were taken back, and the talk that goes on from one."""

from __future__ import annotations

import time
from typing import Any

import gevent
import orjson
import pytest

from router.capacity.ledger import Ledger
from router.errors import EvictedError, MaybeSentError, RunnerDiedError
from router.failover.attempts import FirstResponse
from router.jobs.execution.partial_answers import (
    Exchange,
    PartialAnswer,
    PartialAnswers,
    streamed,
)
from router.jobs.model import CHAT, DATASET_ENDPOINT, EMBEDDINGS
from router.model import Node, Outcome, Score
from router.relay.framing import Framer
from router.relay.http1 import Head
from router.relay.pool import UpstreamRequest
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.pipeline import Decision
from router.scheduling.queue import Assignment
from router.snapshot import NodeView, PresentModel
from tests.harness.patience import Patience
from tests.router.failover.continuation.stage import TableNode
from tests.router.jobs.stage import MODEL
from tests.router.scheduling.offering import candidate

HELLO = [{"role": "user", "content": "count on: 101 102 103"}]


def message(path=DATASET_ENDPOINT, **more):
    body = {"model": MODEL, "messages": HELLO, **more}
    return UpstreamRequest("POST", path, {}, orjson.dumps(body))


def line(text, **more):
    said = {"role": "assistant", "content": text}
    fields = {"model": MODEL, "created_at": "now", "message": said, "done": False}
    return orjson.dumps({**fields, **more}) + b"\n"


def last(prompt, generated):
    ns = 1_000_000
    told = {"prompt_eval_count": prompt, "eval_count": generated, "eval_duration": ns}
    return line("", done=True, done_reason="stop", **told)


class FakeStream:
    """A reply of which a test says when the next line comes."""

    def __init__(self, cancellation):
        self.head = Head(200, "OK", (), keep_alive=True)
        self.gate = Framer(sse=False)
        self.over = False
        self.broken = None
        self.last = b""
        self.evicted = self.runner_died = False
        self.mark = 0
        self._cancellation = cancellation
        self._drain: Any = None

    def deliver_to(self, drain):
        self._drain = drain

    def take(self):
        return b""

    def say(self, *lines):
        self.mark += 1
        self._drain.send(self.gate.feed(b"".join(lines)))

    def end(self, *lines, broken=None):
        self.last = self.gate.feed(b"".join(lines))
        self.over, self.broken = True, broken
        self._cancellation.wake()

    def outcome(self):
        if self.evicted:
            return Outcome.EVICTED
        return Outcome.EOF if self.broken else Outcome.END


class Table:
    """A node that is asked by the table, and streams what the test says."""

    def __init__(self, **traits):
        self.node = TableNode(**traits)
        self.sent = []
        self.streams = []
        self.broken = []
        self.patience = Patience(60.0, 60.0)
        self.released = 0

    def take(self, assignment, asked, cancellation):
        self.sent.append(orjson.loads(asked.body))
        reply: Any = FakeStream(cancellation)
        self.streams.append(reply)
        first = reply.gate.feed(line(f" {104 + 3 * (len(self.streams) - 1)}"))
        return FirstResponse(reply, assignment.lease, first)

    def fetch(self, assignment, messages, cancellation, *, within_seconds=None):
        cancellation.check()
        return [
            (200, orjson.dumps(self.node(asked.path, orjson.loads(asked.body))))
            for asked in messages
        ]

    def watch(self, lease, cancellation):
        return self.patience

    def broke_off(self, lease, reply):
        self.broken.append(reply.broken)

    def release(self, reply):
        self.released += 1


class Scene:
    """A ledger with one node, and talks on it."""

    def __init__(self, **traits):
        self.table = Table(**traits)
        self.ledger = Ledger(4, time.monotonic)
        self.ended: list[tuple[object, ...]] = []
        self.ledger.listen(lambda *each: self.ended.append(each[1:]))

    def talk(self, digest="d"):
        node = Node("one", "http://one:1")
        present = {MODEL: PresentModel(MODEL, digest, 1)}
        view = NodeView(node, Score(0.5), present=present)
        picked = candidate(view)
        cancellation = Cancellation()
        lease = self.ledger.take("one", MODEL)
        assignment = Assignment(lease, node, Decision(picked, (picked,), {}))
        return Exchange(
            self.table, assignment, cancellation, time.monotonic
        ), cancellation

    def start(self, draft=None, digest="d", asked=None):
        """Let a talk run until its stream is read."""
        talk, cancellation = self.talk(digest)
        asked = asked or streamed(message())
        running = gevent.spawn(talk.streamed, asked, MODEL, draft)
        gevent.sleep(0)
        return running, talk, cancellation

    def taken_back(self):
        """Return a draft of the tokens 104 to 106."""
        running, talk, cancellation = self.start()
        self.table.streams[-1].say(line(" 105"), line(" 106"))
        cancellation.stop(Outcome.REVOKED)
        with pytest.raises(CancelledError):
            running.get()
        assert talk.draft.worth_keeping()
        return talk.draft


def said(answer):
    fields = orjson.loads(answer.body)
    return (
        fields["message"]["content"],
        fields["prompt_eval_count"],
        fields["eval_count"],
    )


def test_an_answer_that_nobody_cuts():
    """It is whole when its stream is; the ledger hears what the stream told."""
    scene = Scene()
    running, talk, _ = scene.start()
    scene.table.streams[0].end(line(" 105"), last(7, 2))
    answer = running.get()
    assert (" 104 105", 7, 2) == said(answer)
    assert (7, 2) == (answer.timings.prompt_tokens, answer.timings.generated_tokens)
    assert (None, 0, 1) == (talk.continued, talk.lost, scene.table.released)


def test_the_next_one_goes_on():
    """Asked with the text so far; text, counters and reply are those of one answer."""
    scene = Scene()
    draft = scene.taken_back()
    assert [Outcome.REVOKED] == [outcome for outcome, _ in scene.ended]
    running, talk, _ = scene.start(draft)
    assert " 104 105 106" == scene.table.sent[1]["messages"][-1]["content"]
    scene.table.streams[1].end(line(" 108"), last(10, 2))
    answer = running.get()
    assert (" 104 105 106 107 108", 7, 5) == said(answer)
    assert 3 == talk.continued
    assert (0, 2) == (answer.timings.prompt_tokens, answer.timings.generated_tokens)


def test_it_may_be_taken_back_again():
    """While it is proven as well: what there was stays."""
    scene = Scene()
    draft = scene.taken_back()
    talk, cancellation = scene.talk()
    cancellation.stop(Outcome.REVOKED)
    with pytest.raises(CancelledError):
        talk.streamed(streamed(message()), MODEL, draft)
    assert draft is talk.draft
    running, talk, cancellation = scene.start(draft)
    scene.table.streams[1].say(line(" 108"))
    cancellation.stop(Outcome.REVOKED)
    with pytest.raises(CancelledError):
        running.get()
    assert (5, True) == (talk.draft.tokens, talk.draft.worth_keeping())
    running, _, _ = scene.start(talk.draft)
    assert " 104 105 106 107 108" == scene.table.sent[2]["messages"][-1]["content"]
    scene.table.streams[2].end(last(10, 1))
    assert " 104 105 106 107 108 110" == said(running.get())[0]


@pytest.mark.parametrize(
    ("traits", "digest"),
    [({"modelfile": "PARSER x"}, "d"), ({"closes": "x", "adds": "y"}, "d"), ({}, "e")],
    ids=["a parser", "no way holds", "another model of that name"],
)
def test_where_it_would_be_wrong_it_begins_anew(traits, digest):
    """On the same slot; what there was is lost, and counted."""
    scene = Scene()
    draft = scene.taken_back()
    scene.table.node = TableNode(**traits)
    if traits.get("closes"):
        scene.table.node.debugs = False
        scene.table.node.template = "{{ if .System }}"
    running, talk, _ = scene.start(draft, digest)
    assert HELLO == scene.table.sent[1]["messages"]
    assert (3, None) == (talk.lost, talk.continued)
    scene.table.streams[1].end(last(7, 1))
    assert " 107" == said(running.get())[0]


def test_just_in_time_is_an_answer():
    """A slot that is wanted when the last line is there: nothing is left to do."""
    scene = Scene()
    running, _, cancellation = scene.start()
    scene.table.streams[0].say(line(" 105"), last(7, 2))
    cancellation.stop(Outcome.REVOKED)
    assert (" 104 105", 7, 2) == said(running.get())


@pytest.mark.parametrize(
    ("why", "error"),
    [("", MaybeSentError), ("evicted", EvictedError), ("runner_died", RunnerDiedError)],
    ids=["broken", "emptied", "another's runner"],
)
def test_a_stream_that_breaks(why, error):
    """Is a try that failed, or none where it is not the item's doing."""
    scene = Scene()
    running, _, _ = scene.start()
    if why:
        setattr(scene.table.streams[0], why, True)
    scene.table.streams[0].end(line(" 105"), broken="reset")
    with pytest.raises(error):
        running.get()
    assert scene.table.broken == ([] if why else ["reset"])


def test_a_stream_that_stands_still():
    """A node that is lost costs no half an hour."""
    scene = Scene()
    scene.table.patience = Patience(0.05, 60.0)
    running, _, _ = scene.start()
    with pytest.raises(MaybeSentError, match="one: silent for"):
        running.get(timeout=5)


def test_thoughts_are_not_kept():
    """What a model thought is no text of its answer: it would think once more."""
    scene = Scene()
    running, talk, cancellation = scene.start()
    scene.table.streams[0].say(
        orjson.dumps({"message": {"content": "", "thinking": "hm"}}) + b"\n"
    )
    cancellation.stop(Outcome.REVOKED)
    with pytest.raises(CancelledError):
        running.get()
    assert not talk.draft.worth_keeping()
    assert 2 == talk.draft.tokens  # they are wasted all the same


@pytest.mark.parametrize(
    "asked",
    [
        message(EMBEDDINGS),
        message(CHAT, tools=[{}]),
        message(CHAT, logprobs=True),
        message(CHAT, response_format={"type": "json_object"}),
        message(DATASET_ENDPOINT, format="json"),
        message(DATASET_ENDPOINT, think=True),
    ],
    ids=["embeddings", "tools", "logprobs", "response format", "format", "thinking"],
)
def test_what_must_not_be_continued_is_no_stream(asked):
    """It is asked for in one piece, as ever."""
    assert streamed(asked) is None


def test_openai_streams_tell_their_usage():
    """Without it an item would have no counters."""
    asked = streamed(message(CHAT))
    assert asked is not None
    fields = orjson.loads(asked.body)
    assert (True, {"include_usage": True}) == (
        fields["stream"],
        fields["stream_options"],
    )


def a_draft(tokens):
    draft = PartialAnswer(DATASET_ENDPOINT, "d")
    for n in range(tokens):
        draft.add(line(f" {n}"))
    assert draft.worth_keeping()
    return draft


def test_of_two_drafts_the_longer_is_kept():
    """Those of an item and its copy; the other's tokens are wasted."""
    drafts = PartialAnswers()
    assert 0 == drafts.put(1, a_draft(3))
    assert 3 == drafts.put(1, a_draft(5))
    assert 2 == drafts.put(1, a_draft(2))
    assert (5, 1) == (drafts.tokens(1), len(drafts))
    taken = drafts.take(1)
    assert taken is not None
    assert 5 == taken.tokens
    assert (None, 0) == (drafts.take(1), drafts.drop(1))


def test_of_too_many_the_oldest_go():
    """So that memory is bounded; their items begin anew."""
    one = a_draft(100)
    drafts = PartialAnswers(3 * one.size)
    for item in range(4):
        lost = drafts.put(item, a_draft(100))
    assert (100, 3) == (lost, len(drafts))
    assert drafts.take(0) is None
