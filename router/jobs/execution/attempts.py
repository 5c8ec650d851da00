"""Runs attempts at items on their slots, one greenlet for each attempt.

An attempt ends in one of three ways. With an answer, which is stored once. With a
failure: the item waits and goes to another node, or becomes a dead letter. With a stop
(preemption, a copy was first, the job is cancelled, the router ends): the item waits
again, with its partial answer if that can be continued.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import gevent
from sqlalchemy import Connection

from router.errors import (
    AttemptError,
    EvictedError,
    NotSentError,
    RunnerDiedError,
    UnclearError,
)
from router.failover.retry import RetryBudget
from router.jobs.execution import answer
from router.jobs.execution.active import ActiveJob, Attempt
from router.jobs.execution.leased import LeasedItem
from router.jobs.execution.partial_answers import (
    CompleteReply,
    Exchange,
    PartialAnswers,
    streamed,
)
from router.jobs.input.bodies import RowError
from router.jobs.model import (
    Item,
    ItemFault,
    ItemKind,
    ItemResult,
    ItemState,
    Job,
    Preemption,
)
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.protocols import Attempts, ItemCounters
from router.jobs.store import items, jobs
from router.jobs.store.database import JobDatabase, StoreError
from router.logs.events import get_logger
from router.model import Outcome, Timings
from router.relay.http1 import ProtocolError
from router.relay.pool import UpstreamRequest
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.queue import Assignment

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_RETRY_RATIO = 0.2
_RETRIES_AT_ONCE = 20
_STORE_PAUSE_SECONDS = 0.25
_NO_TRY = (NotSentError, EvictedError, RunnerDiedError)
_HOME_SECONDS = 30.0  # a node's cache keeps a text until others use its slots
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}

log = get_logger("jobs")


@dataclass(frozen=True, slots=True)
class AttemptDependencies:
    """What attempts are made with.

    owner:        this router's name in leases
    item_seconds: the longest time for one reply
    """

    owner: str
    database: JobDatabase
    body_of: Callable[[Job, Item], bytes | None]
    attempts: Attempts
    predictor: LengthPredictor
    tally: ItemCounters
    item_seconds: Callable[[], float]
    speed: Callable[[str, str], float | None]
    wake: Callable[[], None]
    ended: Callable[[ActiveJob], None]


class AttemptsInFlight:
    """Starts, runs and ends attempts at items."""

    def __init__(self, parts: AttemptDependencies) -> None:
        self._parts = parts
        self._budget = RetryBudget(_RETRY_RATIO, _RETRIES_AT_ONCE)
        self._greenlets: dict[Attempt, gevent.Greenlet[..., None]] = {}
        self._drafts = PartialAnswers()
        self.ending = False

    def __len__(self) -> int:
        return len(self._greenlets)

    def begin(
        self,
        active: ActiveJob,
        held: LeasedItem,
        assignment: Assignment,
        *,
        copy: bool = False,
    ) -> None:
        """Start an attempt on a slot that is already taken."""
        cancellation = Cancellation()
        attempt = Attempt(
            held,
            assignment,
            cancellation,
            time.monotonic(),
            _loaded(assignment, held),
            copy,
        )
        assignment.lease.job_of = active.job.account
        assignment.lease.payer = active.job.principal
        if active.job.spec.preemption is Preemption.IMMEDIATE:
            assignment.lease.allow_revoking(lambda: cancellation.stop(Outcome.REVOKED))
        active.attempts.setdefault(held.item.id, []).append(attempt)
        active.tell()
        if copy:
            active.tally(copies=1)
            self._parts.tally.copied()
        else:
            self._budget.deposit()
        self._greenlets[attempt] = gevent.spawn(self._run, active, attempt)

    def end_all(self) -> None:
        """Stop every attempt; the items wait for the next router."""
        self.ending = True
        for attempt in list(self._greenlets):
            attempt.stop(Outcome.SHUTDOWN)

    def join(self, seconds: float) -> None:
        gevent.joinall(list(self._greenlets.values()), timeout=seconds)

    def _run(self, active: ActiveJob, attempt: Attempt) -> None:
        try:
            self._attempt(active, attempt)
        except Exception:  # the item must not be lost with its greenlet
            log.exception("attempt_broke", job=active.job.id, key=attempt.held.item.key)
            self._wait_again(active, attempt, "failed")
        finally:
            attempt.assignment.lease.done(
                Outcome.REFUSED
            )  # does nothing where it ended
            self._greenlets.pop(attempt, None)
            self._end(active, attempt)
            active.tell()
            self._parts.wake()

    def _end(self, active: ActiveJob, attempt: Attempt) -> None:
        some = active.attempts.get(attempt.held.item.id, [])
        if attempt in some:
            some.remove(attempt)
        if not some:
            active.attempts.pop(attempt.held.item.id, None)

    def _attempt(self, active: ActiveJob, attempt: Attempt) -> None:
        timer = gevent.get_hub().loop.timer(self._parts.item_seconds())
        timer.start(attempt.stop, Outcome.DEADLINE)
        try:
            said, request_id = self._send(active, attempt)
            self._judge(active, attempt, said, request_id)
        except CancelledError as error:
            self._stopped(active, attempt, error.outcome)
        except AttemptError as error:
            request_id = _request_id(active, attempt)
            path = attempt.held.item.endpoint
            self._parts.attempts.note(
                attempt.assignment, path, error.bare(), request_id
            )
            if isinstance(error, _NO_TRY):  # the node is held now
                if attempt.draft:
                    self._keep_text(active, attempt, home="")
                self._wait_again(active, attempt, _ended_as(error))
                return
            last_try = attempt.held.item.tries + 1 >= active.job.spec.attempts
            if last_try and isinstance(error, UnclearError):  # wherever it goes
                self._parts.attempts.forgive(request_id)
                if 400 <= error.status < 500:
                    said = CompleteReply(error.status, error.body)
                    self._judge(active, attempt, said, request_id)
                    return
            self._failed(active, attempt, "node_failed", str(error))
        except (answer.UnreadableError, ProtocolError) as error:
            self._failed(active, attempt, "unreadable_reply", str(error))
        except RowError as error:
            self._failed(active, attempt, "row_failed", str(error))
        except StoreError as error:
            log.warning("item_not_read", fault=str(error))
            self._wait_again(active, attempt, "stopped")
        finally:
            timer.stop()
            timer.close()

    def _send(self, active: ActiveJob, attempt: Attempt) -> tuple[CompleteReply, str]:
        item = attempt.held.item
        body = self._parts.body_of(active.job, item)
        attempt.cancellation.check()
        if body is None:  # the job was deleted
            raise CancelledError(Outcome.CLIENT_GONE)
        request_id = _request_id(active, attempt)
        headers = {**_HEADERS, "X-Request-Id": request_id}
        message = UpstreamRequest("POST", item.endpoint, headers, body)
        return self._ask(active, attempt, message), request_id

    def _ask(
        self, active: ActiveJob, attempt: Attempt, message: UpstreamRequest
    ) -> CompleteReply:
        """Send the request; as a stream, to keep its text, if it may be preempted."""
        held = attempt.held
        again, held.begun = held.begun, True
        attempt.talk = talk = Exchange(
            self._parts.attempts,
            attempt.assignment,
            attempt.cancellation,
            time.monotonic,
        )
        stream = None
        if active.job.spec.preemption is Preemption.IMMEDIATE:
            stream = streamed(message)
        try:
            if stream is None:
                return talk.whole(message)
            draft = self._drafts.take(held.item.id)
            return talk.streamed(stream, held.item.model, draft)
        except NotSentError:
            again = False
            raise
        finally:
            self._count_again(active, attempt, talk, again=again)

    def _count_again(
        self, active: ActiveJob, attempt: Attempt, talk: Exchange, *, again: bool
    ) -> None:
        """Count tokens that were sent again, and text that was lost."""
        if talk.continued is not None:
            active.tally(continued=1)
            self._parts.tally.continued()
        if again:
            prompt = attempt.held.pending.prompt
            tokens = prompt + (talk.continued or 0)
            active.tally(reread_tokens=round(tokens))
            self._parts.tally.reread(tokens)
        self._count_waste(active, talk.lost)

    def _judge(
        self, active: ActiveJob, attempt: Attempt, said: CompleteReply, request_id: str
    ) -> None:
        status = said.status
        reply = answer.ItemReply(
            status=status,
            body=said.body,
            node=attempt.node,
            request_id=request_id,
            seconds=time.monotonic() - attempt.since,
            ended=time.time(),
        )
        timings = Timings()
        outcome = Outcome.END if status < 400 else Outcome.REFUSED
        try:
            if answer.worth_another_try(status):
                raise answer.UnreadableError(f"{attempt.node} answered {status}")
            result, timings = answer.read(attempt.held.item, reply)
        finally:
            if said.timings is None:
                attempt.tell_times(timings)
            attempt.assignment.lease.done(outcome, said.timings or timings)
        self._answered(active, attempt, result)

    def _answered(
        self, active: ActiveJob, attempt: Attempt, result: ItemResult
    ) -> None:
        """Store an answer; the item's other attempt is stopped."""
        for other in active.attempts.get(attempt.held.item.id, ()):
            if other is not attempt:
                other.lost = True
                other.stop(Outcome.REVOKED)
        self._end(active, attempt)  # its slot is free; the disk may take a while
        self._parts.tally.attempted("answered")
        if result.error is None:
            self._parts.predictor.learn(attempt.held.pending, result.generated_tokens)
        self._keep(active, attempt.held.item, result)

    def _stopped(self, active: ActiveJob, attempt: Attempt, outcome: Outcome) -> None:
        if outcome is Outcome.DEADLINE:
            seconds = self._parts.item_seconds()
            self._failed(active, attempt, "timeout", f"no reply within {seconds:g} s")
            return
        if attempt.lost:
            self._waste(active, attempt)
            self._parts.tally.attempted("lost")
            return
        if outcome is Outcome.REVOKED:
            active.tally(revoked=1)
            if attempt.talk:  # else its text and its home are where they were
                self._keep_text(active, attempt, home=attempt.node)
            self._wait_again(active, attempt, "revoked")
            return
        self._wait_again(active, attempt, "stopped")

    def _keep_text(self, active: ActiveJob, attempt: Attempt, *, home: str) -> None:
        """Keep the partial answer; `home`: the node that has it in its cache."""
        held, draft = attempt.held, attempt.draft
        if draft and draft.worth_keeping():
            self._count_waste(active, self._drafts.put(held.item.id, draft))
        else:
            self._waste(active, attempt)
        kept = self._drafts.tokens(held.item.id)
        held.taken_back(home, kept, time.monotonic() + _HOME_SECONDS)

    def _waste(self, active: ActiveJob, attempt: Attempt) -> None:
        """Count the tokens of a stopped attempt; estimated unless it was a stream."""
        if attempt.talk is None:  # nothing was sent
            return
        item = attempt.held.item
        if attempt.draft:
            self._count_waste(active, attempt.draft.tokens)
            return
        speed = self._parts.speed(attempt.node, item.model)
        if speed is None:  # it never ended anything there
            tokens = item.weight / 2
        else:
            tokens = (time.monotonic() - attempt.since) * speed
        self._count_waste(active, tokens)

    def _count_waste(self, active: ActiveJob, tokens: float) -> None:
        if tokens:
            active.tally(wasted_tokens=round(tokens))
            self._parts.tally.wasted(tokens)

    def _has_other(self, active: ActiveJob, attempt: Attempt) -> bool:
        some = active.attempts.get(attempt.held.item.id, ())
        return any(other is not attempt and not other.lost for other in some)

    def _wait_again(self, active: ActiveJob, attempt: Attempt, outcome: str) -> None:
        self._parts.tally.attempted(outcome)
        if attempt.lost or self._has_other(active, attempt):
            return
        if self.ending or active.why_not(time.time()):
            self._give_back(attempt.held)
            return
        active.leased.add([attempt.held])

    def _give_back(self, held: LeasedItem) -> None:
        parts = self._parts
        try:
            parts.database.write(
                lambda c: items.give_back(c, parts.owner, [held.item.id])
            )
        except StoreError as error:  # its lease will run out
            log.warning("item_not_given_back", fault=str(error))

    def _failed(
        self, active: ActiveJob, attempt: Attempt, code: str, message: str
    ) -> None:
        """Count a failed attempt; the last one makes the item a dead letter."""
        held = attempt.held
        self._parts.tally.attempted("failed")
        if attempt.draft:  # it begins anew
            self._waste(active, attempt)
        held.begins_anew()
        if attempt.lost or self._has_other(active, attempt):
            return
        pause = self._pause(held.item.tries)
        held.failed_on(attempt.node, time.monotonic() + pause)
        self._end(active, attempt)
        if held.item.tries >= active.job.spec.attempts:
            fault = ItemFault(code, message)
            dead = answer.failed(held.item, fault, time.time(), attempt.node)
            self._keep(active, held.item, dead)
            return
        active.tally(retries=1)
        self._parts.tally.retried()
        item = held.item
        try:
            self._parts.database.write(
                lambda c: items.count_try(c, item.id, item.tries)
            )
        except StoreError as error:  # then it has one try more after a restart
            log.warning("try_not_counted", fault=str(error))
        active.leased.add([held])

    def _pause(self, tries: int) -> float:
        """Return the pause before the next attempt; it grows, also if much fails."""
        if not self._budget.withdraw():
            return _LONGEST_PAUSE_SECONDS
        return float(min(_FIRST_PAUSE_SECONDS * 2**tries, _LONGEST_PAUSE_SECONDS))

    def fail(self, active: ActiveJob, held: LeasedItem, fault: ItemFault) -> None:
        """End a waiting item as a dead letter."""
        self._keep(active, held.item, answer.failed(held.item, fault, time.time()))

    def _keep(self, active: ActiveJob, item: Item, result: ItemResult) -> None:
        """Store a result, however long the database takes.

        A router that is ending gives up; the next one runs the item again.
        """
        self._count_waste(active, self._drafts.drop(item.id))
        if not self._write(active, result):
            return
        tokens = result.prompt_tokens + result.generated_tokens
        if result.kind is ItemKind.ROW:
            active.rates.count(time.monotonic(), 1, result.generated_tokens)
        if tokens:
            prompt, generated = active.tokens
            active.tokens = (
                prompt + result.prompt_tokens,
                generated + result.generated_tokens,
            )
        active.move(result.kind, ItemState.LEASED, result.state)
        self._parts.tally.ended(result)
        self._parts.ended(active)

    def _write(self, active: ActiveJob, result: ItemResult) -> bool:
        job = active.job.id

        def write(connection: Connection) -> bool:
            if active.at_risk:
                jobs.advanced(connection, job)
            return items.finish(connection, job, result)

        while True:
            try:
                written = self._parts.database.write(write)
            except StoreError as error:
                log.warning("result_not_written", fault=str(error), job=job)
                if self.ending:
                    return False
            else:
                active.at_risk = False
                return written
            gevent.sleep(_STORE_PAUSE_SECONDS)


def _ended_as(error: AttemptError) -> str:
    return error.reason if isinstance(error, EvictedError) else "failed"


def _loaded(assignment: Assignment, held: LeasedItem) -> bool:
    picked = assignment.decision.picked
    resident = picked.view.resident if picked else None
    return resident is not None and held.item.model in resident


def _request_id(active: ActiveJob, attempt: Attempt) -> str:
    return f"{active.job.id}.{attempt.held.item.key}"
