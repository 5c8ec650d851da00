"""Attempts on one node after the other, until a reply can be given to the client.

Nothing has been sent to the client yet in here; what happens to a stream that
is under way is the pump's and the frame's affair.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.capacity.ledger import Lease
from router.errors import (
    AttemptError,
    EvictedError,
    GoneError,
    InferOpsError,
    MaybeSentError,
    NotSentError,
    OtherBuildError,
    RefusedError,
)
from router.failover.course import Course, TrafficKnowledge
from router.failover.dead_runner import DeadRunners
from router.failover.judgement import judged
from router.failover.liveness import Liveness, Watch
from router.failover.proxied import ProxiedRequest
from router.failover.releases import Releases
from router.failover.retry import RetryBudget
from router.failover.sequence import (
    AttemptCounters,
    AttemptSequence,
    SequenceDependencies,
)
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Cause, Hold, HoldKind, Node, Outcome, Priority
from router.relay.pool import Backends, UpstreamRequest
from router.relay.protocols import ROUTES
from router.relay.upstream import UpstreamReply
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Assignment
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTrace

log = get_logger("failover")


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """How often a request may be tried."""

    attempts: int


class FirstResponse(NamedTuple):
    """A reply that the client may have; its slot is still taken.

    refused: whether the node says that the request is wrong
    """

    reply: UpstreamReply
    lease: Lease
    body: bytes
    refused: bool = False


class Failover:
    """Tries nodes in turn, within the number of attempts and the retry budget."""

    def __init__(
        self,
        dispatcher: Scheduler,
        backends: Backends,
        holds: HoldStore,
        tally: AttemptCounters,
        limits: AttemptLimits,
        *,
        learned: TrafficKnowledge,
        budget: RetryBudget,
        releases: Releases,
        liveness: Liveness,
        runners: DeadRunners,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backends = backends
        self._holds = holds
        self._tally = tally
        self.limits = limits
        self.budget = budget
        self.liveness = liveness
        self.runners = runners
        self.course = Course(
            learned,
            dispatcher.explain,
            holds,
            tally,
            budget,
            attempts=lambda: self.limits.attempts,
            clock=clock,
        )
        self._sequence = SequenceDependencies(
            dispatcher, self.course, releases, tally, self.note, clock
        )

    def first_response(
        self, call: ProxiedRequest, cancellation: Cancellation, trace: DecisionTrace
    ) -> FirstResponse:
        """Return the first reply that speaks to the request.

        Raises RequestError, AttemptError (the last one, when no node is left),
        StoppedError.
        """
        self.budget.deposit()
        self.course.admit(call)
        attempts = self.attempts(call, cancellation, trace)
        while True:
            assignment = attempts.next()
            try:
                first = self.take(assignment, call.message, cancellation)
                if first.refused:
                    return self._by_build(call, assignment, first)
            except AttemptError as error:
                attempts.failed(error)
            else:
                self.course.learn_refusals(call)
                return first

    def attempts(
        self, call: ProxiedRequest, cancellation: Cancellation, trace: DecisionTrace
    ) -> AttemptSequence:
        """Begin the attempts of a request, or of a stream that goes on."""
        return AttemptSequence(self._sequence, call, cancellation, trace)

    def _by_build(
        self, call: ProxiedRequest, assignment: Assignment, first: FirstResponse
    ) -> FirstResponse:
        """Have another build asked before the client hears that its request is wrong.

        Raises OtherBuildError, with this answer, where there is one to be asked.
        """
        body, elsewhere = self.course.other_build(call, assignment, first.body)
        head = first.reply.head
        if head is None or not elsewhere:
            return first._replace(body=body)
        self.release(first.reply)
        first.lease.done(Outcome.REFUSED)
        why = f"{assignment.node.name}: {head.status}: refused by this build"
        raise OtherBuildError(why, status=head.status, body=body, headers=head.headers)

    def take(
        self,
        assignment: Assignment,
        message: UpstreamRequest,
        cancellation: Cancellation,
    ) -> FirstResponse:
        """One attempt; the slot is given back unless the reply is presented."""
        outcome = Outcome.REFUSED
        first = None
        try:
            reply = self._sent(assignment, message, cancellation)
            reply = self._answered(reply, assignment, message, cancellation)
            body, refused = self._judge(reply, assignment.node, message)
            first = FirstResponse(reply, assignment.lease, body, refused)
        except CancelledError as error:
            outcome = error.outcome
            raise
        except AttemptError as error:
            if isinstance(error, EvictedError):
                outcome = Outcome.EVICTED
            # First: what follows has the next request sent there.
            request_id = message.headers.get("X-Request-Id", "")
            self.course.charge(assignment, message.path, error, request_id)
            if isinstance(error, RefusedError):
                self.runners.note(assignment.lease, str(error))
            raise
        finally:
            if first is None:
                assignment.lease.done(outcome)
        self._tally.attempted(assignment.node.name, "presented")
        if not refused:
            self.course.answered(assignment)
        if reply.gate:
            self.runners.spoke(assignment.lease)
        return first

    def fetch(
        self,
        assignment: Assignment,
        messages: Sequence[UpstreamRequest],
        cancellation: Cancellation,
        *,
        within_seconds: float | None = None,
    ) -> list[tuple[int, bytes]]:
        """Ask for whole replies, all at one time, on a slot that is held already.

        Returns status and body of each. Raises AttemptError, StoppedError.
        """
        node = assignment.node
        replies: deque[UpstreamReply] = deque()
        try:
            replies.extend(
                self._sent(assignment, each, cancellation) for each in messages
            )
            fetched = []
            for message in messages:
                reply = replies.popleft()
                reply = self._answered(
                    reply, assignment, message, cancellation, within_seconds
                )
                body, _ = self._judge(reply, node, message)
                fetched.append((reply.head.status if reply.head else 0, body))
                self.release(reply)
        except RefusedError as error:
            self.runners.note(assignment.lease, str(error))
            raise
        finally:
            for reply in replies:
                self.release(reply)
        return fetched

    def _sent(
        self,
        assignment: Assignment,
        message: UpstreamRequest,
        cancellation: Cancellation,
        *,
        fresh: bool = False,
    ) -> UpstreamReply:
        if assignment.lease.span is not None:
            headers = {**message.headers, "traceparent": assignment.lease.span.header}
            message = message._replace(headers=headers)
        node = assignment.node
        reply = UpstreamReply(
            self._backends.send(node, message, fresh=fresh), cancellation
        )
        reply.open_ended = message.path not in ROUTES
        return reply

    def _answered(
        self,
        reply: UpstreamReply,
        assignment: Assignment,
        message: UpstreamRequest,
        cancellation: Cancellation,
        within_seconds: float | None = None,
    ) -> UpstreamReply:
        """Sleep until the reply can be judged."""
        self._wait(reply, assignment, cancellation, within_seconds)
        unread = not reply.bytes_seen and not (reply.evicted or reply.runner_died)
        if reply.broken and unread and reply.connection.reused:
            # It was closed while idle, and the request crossed the close.
            self.release(reply)
            try:
                reply = self._sent(assignment, message, cancellation, fresh=True)
            except NotSentError as error:  # or this request ended the server
                raise GoneError(str(error), Cause.RESET) from error
            self._wait(reply, assignment, cancellation, within_seconds)
        return reply

    def _wait(
        self,
        reply: UpstreamReply,
        assignment: Assignment,
        cancellation: Cancellation,
        within_seconds: float | None,
    ) -> None:
        """Wait while the node is at work. Raises MaybeSentError, StoppedError."""
        try:
            why = self.liveness.wait(
                assignment.lease, reply, cancellation, within_seconds
            )
        except BaseException:
            # Closing is what frees the slot in Ollama.
            self.release(reply)
            raise
        if why is not None:
            self.release(reply)
            raise MaybeSentError(f"{assignment.node.name}: {why}", Cause.TIMEOUT)

    def _judge(
        self, reply: UpstreamReply, node: Node, message: UpstreamRequest
    ) -> tuple[bytes, bool]:
        """Return what came, and whether it blames the request; else AttemptError."""
        try:
            return judged(reply, node.name, message.path, len(message.body))
        except InferOpsError:
            self.release(reply)
            raise

    def watch(self, lease: Lease, cancellation: Cancellation) -> Watch:
        """Watch over a stream of plain text that has no client."""
        return self.liveness.stream(lease, cancellation, plain=True)

    def free_elsewhere(self, routing: RoutingRequest, priority: Priority) -> bool:
        """Say whether a node could take a request at once."""
        return self._sequence.free_elsewhere(routing, priority)

    def broke_off(
        self, lease: Lease, reply: UpstreamReply, *, wordless: bool = False
    ) -> None:
        """Take what the end of a broken stream says of others on its node.

        wordless: on its route a dead runner leaves an end without any word
        """
        if reply.runner_died:
            return
        if reply.gate and reply.gate.failure is not None:
            self.runners.note(lease, reply.gate.failure)
        elif wordless and reply.broken is None:
            self.runners.doubt(lease)

    def release(self, reply: UpstreamReply) -> None:
        """Finish with a reply: its connection is kept where it can be."""
        if reply.close():
            self._backends.give_back(reply.connection)

    def note(
        self, assignment: Assignment, path: str, error: AttemptError, request_id: str
    ) -> None:
        """Count a failed attempt; a node that cannot be reached is held at once."""
        node = assignment.node.name
        self._tally.attempted(node, error.reason)
        if isinstance(error, NotSentError | GoneError):
            # The router's own evidence first; a probe brings the node back.
            why = str(error)
            hold = Hold(node, HoldKind.DOWN, "traffic", why, time.time())
            if self._holds.find_down(hold):
                log.warning("node_down", node=node, why=why, request_id=request_id)
        self.course.charge(assignment, path, error, request_id)

    def forgive(self, request_id: str) -> None:
        """Charge nodes no more with what was the request's own fault."""
        self.course.forgive(request_id)
