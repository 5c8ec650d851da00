"""What the tests of jobs share: items, and fakes of what attempts work with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from router.capacity.ledger import Ledger
from router.failover.attempts import FirstResponse
from router.jobs.execution.active import ActiveJob
from router.jobs.execution.leased import leased_item
from router.jobs.model import (
    CHAT,
    Format,
    Item,
    ItemKind,
    Job,
    JobSpec,
    JobState,
    Preemption,
)
from router.model import Node
from router.relay.http1 import Head
from router.scheduling.pipeline import Decision
from router.scheduling.queue import Assignment

MODEL = "m:latest"


def an_item(n=0, *, weight=1.0, wave=0, kind=ItemKind.ROW, model=MODEL, tries=0):
    return Item(
        id=n,
        job="batch_1",
        key=str(n),
        kind=kind,
        index=n,
        custom_id=f"c{n}",
        endpoint=CHAT,
        model=model,
        size=40,
        weight=weight,
        tries=tries,
        wave=wave,
    )


def an_active(*, attempts=3, preemption=Preemption.IMMEDIATE, created=None, **terms):
    spec = JobSpec(
        CHAT, "file-1", Format.OPENAI, attempts=attempts, preemption=preemption, **terms
    )
    return ActiveJob(Job("batch_1", spec, JobState.IN_PROGRESS, created or 4e9))


def waiting(n=0, **more):
    return leased_item(an_item(n, **more))


class FakeReply:
    """As much of a reply as is looked at."""

    def __init__(self, status):
        self.head = Head(status, "OK", (), keep_alive=True)
        self.gate = None


@dataclass
class FakeAttempts:
    """Sends nothing: `answers` says by node what comes, after a wait on it.

    An answer is (status, body), or an exception to be raised.
    """

    answers: dict[str, tuple[int, bytes] | Exception] = field(default_factory=dict)
    sent: Counter = field(default_factory=Counter)
    noted: list[tuple[str, str]] = field(default_factory=list)
    hold: set[str] = field(default_factory=set)

    def take(self, assignment, message, cancellation):
        node = assignment.node.name
        self.sent[node] += 1
        try:
            while node in self.hold:
                cancellation.check()
                cancellation.sleep(0.01)
        except BaseException:
            assignment.lease.done(cancellation.stopped)
            raise
        answer = self.answers[node]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        reply: Any = FakeReply(status)
        return FirstResponse(reply, assignment.lease, body)

    def fetch(self, assignment, messages, cancellation, *, within_seconds=None):
        """Nothing is continued on played nodes."""
        raise AssertionError

    def watch(self, lease, cancellation):
        """Nothing is streamed from them."""
        raise AssertionError

    def broke_off(self, lease, reply):
        """Nothing breaks off on them."""
        raise AssertionError

    def release(self, reply):
        """Nothing was opened."""

    def note(self, assignment, path, error, request_id):
        self.noted.append((assignment.node.name, error.reason))

    def forgive(self, request_id):
        """No circuit is kept."""


@dataclass
class FakeTally:
    """Counts what it is told."""

    attempts: Counter = field(default_factory=Counter)
    results: list = field(default_factory=list)
    states: list = field(default_factory=list)
    retries: int = 0
    copies: int = 0
    tokens: float = 0.0
    continuations: int = 0
    again: float = 0.0

    def attempted(self, outcome):
        self.attempts[outcome] += 1

    def retried(self):
        self.retries += 1

    def copied(self):
        self.copies += 1

    def wasted(self, tokens):
        self.tokens += tokens

    def continued(self):
        self.continuations += 1

    def reread(self, tokens):
        self.again += tokens

    def ended(self, result):
        self.results.append(result)

    def job_ended(self, state):
        self.states.append(state)


def a_grant(ledger: Ledger, node: str) -> Assignment:
    lease = ledger.take(node, MODEL)
    return Assignment(lease, Node(node, f"http://{node}:1"), Decision(None, (), {}))
