"""Attempts at items: answered once, tried again, taken back, copied, ended."""

from __future__ import annotations

import time

import gevent
import orjson
import pytest

from router.capacity.ledger import Ledger
from router.errors import EvictedError, MaybeSentError, NotSentError
from router.jobs.execution.attempts import (
    AttemptDependencies,
    AttemptsInFlight,
)
from router.jobs.execution.leased import leased_item
from router.jobs.input.bodies import RowError
from router.jobs.model import ItemState, Preemption, Tallies
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.store import items, jobs, results
from router.jobs.store.database import JobDatabase, database_url
from router.jobs.store.schema import migrate
from router.model import Node, Outcome
from tests.harness.poll import until
from tests.router.jobs.stage import (
    MODEL,
    FakeAttempts,
    FakeTally,
    a_grant,
    an_active,
)
from tests.router.jobs.store.stage import PLACE, item

JOB = "batch_1"


def said(text):
    return 200, orjson.dumps({"choices": [{"message": {"content": text}}]})


class Field:
    """Attempts over a real database and ledger; nodes are played."""

    def __init__(self, tmp_path, count=1, **terms):
        self.database = JobDatabase(database_url("", tmp_path, None), migrate)
        self.database.open()
        self.ledger = Ledger(4, time.monotonic)
        self.ledger.configure([Node(n, f"http://{n}:1", 4) for n in ("one", "two")])
        self.attempts = FakeAttempts({"one": said("hi"), "two": said("ho")})
        self.tally = FakeTally()
        self.seconds = 60.0
        self.ended: list[object] = []
        self.active = an_active(**terms)
        self.row_fault = None
        self.in_flight = AttemptsInFlight(
            AttemptDependencies(
                owner="me",
                database=self.database,
                body_of=self.body_of,
                attempts=self.attempts,
                predictor=LengthPredictor(),
                tally=self.tally,
                item_seconds=lambda: self.seconds,
                speed=lambda *_: 100.0,
                wake=lambda: None,
                ended=self.ended.append,
            )
        )
        job = self.active.job
        self.database.write(lambda c: jobs.add(c, job, "me", 1e12))
        some = [item(n) for n in range(count)]
        self.database.write(lambda c: items.add(c, JOB, some, 1.0))
        self.held = [
            leased_item(each)
            for each in self.database.write(
                lambda c: items.lease(c, "me", 1e12, PLACE, count)
            )
        ]

    def body_of(self, job, item):
        if self.row_fault:
            raise RowError(self.row_fault)
        return self.database.read(lambda c: items.body(c, item.id))

    def begin(self, node, at=0, *, copy=False):
        assignment = a_grant(self.ledger, node)
        self.in_flight.begin(self.active, self.held[at], assignment, copy=copy)
        return assignment

    def sent(self, node, times=1):
        until(
            lambda: self.attempts.sent[node] >= times,
            f"{times} attempts at node {node}",
            every=0.001,
            sleep=gevent.sleep,
        )

    def land(self):
        self.in_flight.join(5)
        assert 0 == len(self.in_flight)
        assert {} == self.active.attempts
        assert 0 == self.ledger.in_flight("one") + self.ledger.in_flight("two")

    def results(self):
        found, _ = self.database.read(lambda c: results.as_they_came(c, JOB, 0, 99))
        return found

    def states(self):
        rows, _ = self.database.read(lambda c: items.counts(c, JOB))
        return rows


@pytest.fixture
def make(tmp_path):
    made = []

    def field(**terms):
        made.append(Field(tmp_path, **terms))
        return made[-1]

    yield field
    for each in made:
        each.database.close()


def test_an_answer_is_written_once(make):
    """With the words, the node and the times; who waits for it is told."""
    field = make()
    field.begin("one")
    field.land()
    (result,) = field.results()
    assert ("hi", "one", ItemState.DONE, 200) == (
        result.text,
        result.node,
        result.state,
        result.status,
    )
    assert [field.active] == field.ended
    assert {"answered": 1} == field.tally.attempts


def test_of_two_copies_the_first_counts(make):
    """The other is closed at once; what it had generated is wasted, and estimated."""
    field = make(preemption=Preemption.AFTER_ITEM)
    field.attempts.hold.add("one")
    field.begin("one")
    field.sent("one")
    gevent.sleep(0.1)  # a time of generation, by which the waste is estimated
    field.begin("two", copy=True)
    field.land()
    (result,) = field.results()
    assert "two" == result.node
    assert {"answered": 1, "lost": 1} == field.tally.attempts
    assert field.active.unsaved.copies == 1
    assert field.active.unsaved.wasted_tokens >= 10
    assert 0 == len(field.active.leased)


def test_a_copy_that_fails_leaves_the_other(make):
    """No try is counted while one still runs."""
    field = make()
    field.attempts.hold.add("one")
    field.attempts.answers["two"] = MaybeSentError("two: broke")
    field.begin("one")
    field.begin("two", copy=True)
    field.sent("two")
    field.attempts.hold.clear()
    field.land()
    (result,) = field.results()
    assert ("one", 0) == (result.node, field.held[0].item.tries)


def test_a_failed_try_goes_elsewhere_later(make):
    """It waits, avoids the node, and the database knows of the try."""
    field = make()
    field.attempts.answers["one"] = MaybeSentError("one: broke")
    field.begin("one")
    field.land()
    assert [] == field.results()
    (waiting,) = field.active.leased
    assert (1, frozenset({"one"})) == (waiting.item.tries, waiting.pending.avoid)
    assert [] == field.active.leased.ready(MODEL, time.monotonic())
    field.database.write(items.reclaim_all)
    (again,) = field.database.write(lambda c: items.lease(c, "you", 1e12, PLACE, 9))
    assert 1 == again.tries


@pytest.mark.parametrize(
    "answer",
    [MaybeSentError("one: broke"), (500, b"{}"), (200, b"no json"), (503, b"{}")],
    ids=["broke", "500", "no json", "503"],
)
def test_the_last_try_makes_a_dead_letter(make, answer):
    """With the last words."""
    field = make(attempts=2)
    field.attempts.answers["one"] = answer
    for _ in range(2):
        field.begin("one")
        field.land()
        field.active.leased.clear()
    (result,) = field.results()
    assert ItemState.FAILED is result.state
    assert 1 == field.tally.retries
    assert 1 == field.states().failed


def test_what_never_reached_the_node_is_no_try(make):
    """The node is held by whoever notes it."""
    field = make(attempts=1)
    field.attempts.answers["one"] = NotSentError("one: refused")
    field.begin("one")
    field.land()
    (waiting,) = field.active.leased
    assert (0, "") == (waiting.item.tries, waiting.pending.home)
    assert [("one", "not_sent")] == field.attempts.noted
    assert 0 == field.tally.tokens


def test_a_slot_that_is_taken_back_costs_no_try(make):
    """The item waits again at once; its slot is free when the attempt has ended."""
    field = make(attempts=1)
    field.attempts.hold.add("one")
    assignment = field.begin("one")
    field.sent("one")
    assert assignment.lease.revocable
    assert assignment.lease.revoke()
    field.land()
    (waiting,) = field.active.leased
    assert (0, 0.0) == (waiting.item.tries, waiting.not_before)
    assert ("one", 0) == (waiting.pending.home, waiting.pending.had)
    assert {"revoked": 1} == field.tally.attempts
    assert 1 == field.active.unsaved.revoked


def test_what_is_taken_back_before_it_was_sent_wastes_nothing(make):
    """It has generated nothing there: its text and its home stay as they were."""
    field = make(attempts=1)
    field.held[0].taken_back("two", 12.0, time.monotonic() + 30)
    assignment = field.begin("one")
    assert assignment.lease.revoke()
    field.land()
    (waiting,) = field.active.leased
    assert {} == field.attempts.sent
    assert ("two", 12.0) == (waiting.pending.home, waiting.pending.had)
    assert {"revoked": 1} == field.tally.attempts
    assert 0 == field.tally.tokens


def test_a_copy_that_lost_before_it_was_sent_wastes_nothing(make):
    """As one that is taken back."""
    field = make(preemption=Preemption.AFTER_ITEM)
    field.begin("one", copy=True)
    (attempt,) = field.active.attempts[field.held[0].item.id]
    attempt.lost = True
    attempt.stop(Outcome.REVOKED)
    field.land()
    assert {} == field.attempts.sent
    assert {"lost": 1} == field.tally.attempts
    assert 0 == field.tally.tokens


def test_a_node_that_is_emptied_costs_no_try(make):
    """As for people's requests: it goes elsewhere."""
    field = make(attempts=1)
    field.attempts.answers["one"] = EvictedError("one: the node is being emptied")
    field.begin("one")
    field.land()
    (waiting,) = field.active.leased
    assert 0 == waiting.item.tries
    assert {"evicted": 1} == field.tally.attempts


def test_prompts_that_are_given_once_more_are_counted(make):
    """Of each attempt but the first, by the size of the prompt."""
    field = make()
    field.attempts.hold.add("one")
    for attempt in range(3):
        assignment = field.begin("one")
        field.sent("one", attempt + 1)
        assert assignment.lease.revoke()
        field.land()
        field.active.leased.clear()
    prompt = field.held[0].pending.prompt
    assert 2 * prompt == field.tally.again
    assert 2 * round(prompt) == field.active.unsaved.reread_tokens
    assert 0 == field.active.unsaved.continued


def test_a_reply_that_takes_too_long_is_a_failed_try(make):
    """By the setting's time."""
    field = make(attempts=1)
    field.seconds = 0.05
    field.attempts.hold.add("one")
    field.begin("one")
    field.land()
    (result,) = field.results()
    assert ("timeout", "no reply within 0.05 s") == (
        result.error.code,
        result.error.message,
    )


def test_at_the_end_items_wait_for_the_next_router(make):
    """Their leases are given back; nothing counts as a try."""
    field = make(count=3)
    field.attempts.hold.add("one")
    for at in range(3):
        field.begin("one", at)
    field.sent("one", 3)
    field.in_flight.end_all()
    field.land()
    assert 3 == field.states().waiting
    assert {"stopped": 3} == field.tally.attempts


def test_a_job_that_was_deleted_is_let_go(make):
    """Its items are not there any more."""
    field = make()
    while not field.database.write(lambda c: jobs.remove(c, JOB, 10)):
        pass
    field.begin("one")
    field.land()
    assert {} == field.attempts.sent
    assert Tallies() == field.active.unsaved
