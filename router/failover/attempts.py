"""Attempts on one node after the other, until a reply can be given to the client.

Nothing has been sent to the client yet in here; what happens to a stream that
is under way is the pump's and the frame's affair.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from router.cancellation import Cancellation, CancelledError
from router.capacity.ledger import Lease
from router.errors import (
    AttemptError,
    EvictedError,
    GoneError,
    InferOpsError,
    MaybeSentError,
    NotFoundError,
    NotSentError,
    OtherBuildError,
    RefusedError,
    RouteMissingError,
    UnavailableError,
)
from router.failover.course import Course, Retries, TrafficKnowledge
from router.failover.dead_runner import DeadRunners
from router.failover.findings import Findings
from router.failover.judgement import judged, route_missing
from router.failover.liveness import Liveness, Watch
from router.failover.releases import Releases
from router.failover.retry import RetryBudget
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Cause, Hold, HoldKind, Node, Outcome, Priority
from router.relay.pool import Backends, UpstreamRequest
from router.relay.protocols import ROUTES
from router.relay.upstream import UpstreamReply
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Assignment
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTrace, TraceStep
from router.usage.account import UsageAccount

T = TypeVar("T")

log = get_logger("failover")


class AttemptCounters(Retries, Protocol):
    """What attempts are counted with."""

    def queued(
        self, priority: Priority, seconds: float, trace_id: str = ""
    ) -> None: ...

    def attempted(self, node: str, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """How often a request may be tried."""

    attempts: int


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """A client's request on its way; `deadline` in the router's monotonic time.

    findings: what its attempts found out, over all legs of its stream
    account:  where its use is counted
    """

    wish: RoutingRequest
    message: UpstreamRequest
    priority: Priority
    deadline: float
    streams: bool = False
    findings: Findings = field(default_factory=Findings)
    account: UsageAccount | None = None


@dataclass(frozen=True, slots=True)
class FirstResponse:
    """A reply that the client may have; its slot is still taken.

    refused: whether the node says that the request is wrong
    """

    reply: UpstreamReply
    lease: Lease
    body: bytes
    refused: bool = False


@dataclass(slots=True)
class _Progress:
    """How far a request has come.

    lacking: nodes whose release does not have the route
    node:    the one that was asked last, and `last`: how that failed
    """

    lacking: frozenset[str]
    tried: set[str] = field(default_factory=set)
    node: str = ""
    last: AttemptError | None = None
    asked_again: bool = False

    @property
    def attempts(self) -> int:
        return len(self.tried) + self.asked_again

    def wish(self, call: ProxiedRequest) -> RoutingRequest:
        """Return what the request asks for, without the nodes that it is done with."""
        past = self.tried | self.lacking
        wish = call.wish
        return replace(wish, tried=wish.tried | past) if past else wish

    def ask_again(self) -> None:
        """Let the node that was asked last be asked once more."""
        self.asked_again = True
        self.tried.discard(self.node)


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
        self._dispatcher = dispatcher
        self._backends = backends
        self._holds = holds
        self._tally = tally
        self.limits = limits
        self.budget = budget
        self._releases = releases
        self.liveness = liveness
        self.runners = runners
        self._clock = clock
        self.course = Course(
            learned,
            dispatcher.explain,
            holds,
            tally,
            budget,
            attempts=lambda: self.limits.attempts,
            clock=clock,
        )

    def present(
        self, call: ProxiedRequest, attention: Cancellation, trail: DecisionTrace
    ) -> FirstResponse:
        """Return the first reply that speaks to the request.

        Raises RequestError, AttemptError (the last one, when no node is left),
        StoppedError.
        """
        self.budget.deposit()
        self.course.admit(call)

        def take(grant: Assignment) -> FirstResponse:
            presented = self.take(grant, call.message, attention)
            if not presented.refused:
                self.course.learn_refusals(call)
                return presented
            return self._by_build(call, grant, presented)

        return self.attempt(call, attention, trail, take)

    def attempt(
        self,
        call: ProxiedRequest,
        attention: Cancellation,
        trail: DecisionTrace,
        take: Callable[[Assignment], T],
    ) -> T:
        """Do `take` with a slot of one node after the other until one succeeds.

        It gives the slot back when it fails. Where no other node is free, the last is
        asked once more if just its runner died. Raises what `present` raises.
        """
        course, found = self.course, call.findings
        progress = _Progress(self._releases.lacking(call.message.path))
        spans = trail.spans
        while True:
            if spans is not None:
                spans.wait(self._clock(), call.priority)
            grant = self._next(call, attention, trail, progress)
            if grant is None:
                continue
            if spans is not None:
                grant.lease.span = spans.attempt(grant.node, grant.lease.taken_at)
            step = TraceStep.of(grant.decision, grant.lease)
            trail.steps.append(step)
            credible = course.begins(grant, found)
            try:
                return take(grant)
            except AttemptError as error:
                step.failure = str(error)
                if grant.lease.span is not None:
                    grant.lease.span.fail(error.reason, error.cause)
                progress.last, progress.node = error.bare(), grant.node.name
                self._failed(call, grant, error, trail, progress, credible=credible)

    def _next(
        self,
        call: ProxiedRequest,
        attention: Cancellation,
        trail: DecisionTrace,
        progress: _Progress,
    ) -> Assignment | None:
        """Wait for a slot of another node; None where the last may be asked again."""
        course, found, last = self.course, call.findings, progress.last
        wish = progress.wish(call)
        died = last is not None and last.cause == Cause.RUNNER_DIED
        again = died and not progress.asked_again
        if again and not self.free_elsewhere(wish, call.priority):
            progress.ask_again()
            wish = progress.wish(call)
        wish = course.place(wish, found, progress.node)
        # Who has an answer to give does not wait for a node that is switched off.
        patient = not isinstance(last, RefusedError)
        try:
            return self._acquire(call, wish, attention, trail, patient=patient)
        except (NotFoundError, UnavailableError):
            if not progress.asked_again and last and last.cause in _ASKED_AGAIN:
                progress.ask_again()
                return None
            course.given_up(found, trail.request_id)
            if last and not isinstance(last, EvictedError):
                raise found.aside or last from None
            if self._releases.all_lack(call.message.path, call.wish.model):
                raise route_missing("every node", call.message.path) from None
            raise

    def _failed(
        self,
        call: ProxiedRequest,
        grant: Assignment,
        error: AttemptError,
        trail: DecisionTrace,
        progress: _Progress,
        *,
        credible: bool,
    ) -> None:
        """Take in a failed attempt; raises where no other is to be made."""
        course, found, path = self.course, call.findings, call.message.path
        node, tried, request_id = grant.node.name, progress.tried, trail.request_id
        if isinstance(error, RouteMissingError):
            self._releases.note(path, node)
            progress.lacking = self._releases.lacking(path)
            self._tally.attempted(node, error.reason)
            return
        self.note(grant, path, error, request_id)
        if isinstance(error, NotSentError) and node not in found.unreached:
            found.unreached.add(node)  # once it is back, it may be asked again
        else:
            tried.add(node)
        tried |= course.failed(call, grant, error, request_id, credible=credible)
        if not course.goes_on(call, error, tried, progress.attempts):
            course.given_up(found, request_id)
            raise found.aside or error from None

    def _by_build(
        self, call: ProxiedRequest, grant: Assignment, presented: FirstResponse
    ) -> FirstResponse:
        """Have another build asked before the client hears that its request is wrong.

        Raises OtherBuildError, with this answer, where there is one to be asked.
        """
        body, elsewhere = self.course.other_build(call, grant, presented.body)
        head = presented.reply.head
        if head is None or not elsewhere:
            return replace(presented, body=body)
        self.release(presented.reply)
        presented.lease.done(Outcome.REFUSED)
        why = f"{grant.node.name}: {head.status}: refused by this build"
        raise OtherBuildError(why, status=head.status, body=body, headers=head.headers)

    def _acquire(
        self,
        call: ProxiedRequest,
        wish: RoutingRequest,
        attention: Cancellation,
        trail: DecisionTrace,
        *,
        patient: bool,
    ) -> Assignment:
        began = self._clock()
        grant = self._dispatcher.acquire(
            wish, call.priority, attention, call.deadline, patient=patient
        )
        waited = self._clock() - began
        trace_id = trail.spans.trace_id if trail.spans is not None else ""
        self._tally.queued(call.priority, waited, trace_id)
        grant.lease.account = call.account
        if call.account is not None:
            call.account.queued(waited)
        grant.lease.streams = call.streams
        grant.lease.continued = call.priority is Priority.CONTINUED
        grant.lease.tried = wish.tried
        picked = grant.decision.picked
        if picked and picked.view.resident is not None:
            grant.lease.resident = call.wish.model in picked.view.resident
        return grant

    def take(
        self, grant: Assignment, message: UpstreamRequest, attention: Cancellation
    ) -> FirstResponse:
        """One attempt; the slot is given back unless the reply is presented."""
        outcome = Outcome.REFUSED
        presented = None
        try:
            reply = self._sent(grant, message, attention)
            reply = self._answered(reply, grant, message, attention)
            body, refused = self._judge(reply, grant.node, message.path)
            presented = FirstResponse(reply, grant.lease, body, refused)
        except CancelledError as error:
            outcome = error.outcome
            raise
        except AttemptError as error:
            if isinstance(error, EvictedError):
                outcome = Outcome.EVICTED
            # First: what follows has the next request sent there.
            request_id = message.headers.get("X-Request-Id", "")
            self.course.charge(grant, message.path, error, request_id)
            if isinstance(error, RefusedError):
                self.runners.note(grant.lease, str(error))
            raise
        finally:
            if presented is None:
                grant.lease.done(outcome)
        self._tally.attempted(grant.node.name, "presented")
        if not refused:
            self.course.answered(grant)
        if reply.gate:
            self.runners.spoke(grant.lease)
        return presented

    def fetch(
        self,
        grant: Assignment,
        messages: Sequence[UpstreamRequest],
        attention: Cancellation,
        *,
        within_seconds: float | None = None,
    ) -> list[tuple[int, bytes]]:
        """Ask for whole replies, all at one time, on a slot that is held already.

        Returns status and body of each. Raises AttemptError, StoppedError.
        """
        node = grant.node
        replies: deque[UpstreamReply] = deque()
        try:
            replies.extend(self._sent(grant, each, attention) for each in messages)
            fetched = []
            for message in messages:
                reply = replies.popleft()
                reply = self._answered(reply, grant, message, attention, within_seconds)
                body, _ = self._judge(reply, node, message.path)
                fetched.append((reply.head.status if reply.head else 0, body))
                self.release(reply)
        except RefusedError as error:
            self.runners.note(grant.lease, str(error))
            raise
        finally:
            for reply in replies:
                self.release(reply)
        return fetched

    def _sent(
        self,
        grant: Assignment,
        message: UpstreamRequest,
        attention: Cancellation,
        *,
        fresh: bool = False,
    ) -> UpstreamReply:
        if grant.lease.span is not None:
            told = {**message.headers, "traceparent": grant.lease.span.header}
            message = replace(message, headers=told)
        node = grant.node
        reply = UpstreamReply(
            self._backends.send(node, message, fresh=fresh), attention
        )
        reply.open_ended = message.path not in ROUTES
        return reply

    def _answered(
        self,
        reply: UpstreamReply,
        grant: Assignment,
        message: UpstreamRequest,
        attention: Cancellation,
        within_seconds: float | None = None,
    ) -> UpstreamReply:
        """Sleep until the reply can be judged."""
        self._wait(reply, grant, attention, within_seconds)
        unread = not reply.bytes_seen and not (reply.evicted or reply.runner_died)
        if reply.broken and unread and reply.connection.reused:
            # It was closed while idle, and the request crossed the close.
            self.release(reply)
            try:
                reply = self._sent(grant, message, attention, fresh=True)
            except NotSentError as error:  # or this request ended the server
                raise GoneError(str(error), Cause.RESET) from error
            self._wait(reply, grant, attention, within_seconds)
        return reply

    def _wait(
        self,
        reply: UpstreamReply,
        grant: Assignment,
        attention: Cancellation,
        within_seconds: float | None,
    ) -> None:
        """Wait while the node is at work. Raises MaybeSentError, StoppedError."""
        try:
            why = self.liveness.wait(grant.lease, reply, attention, within_seconds)
        except BaseException:
            # Closing is what frees the slot in Ollama.
            self.release(reply)
            raise
        if why is not None:
            self.release(reply)
            raise MaybeSentError(f"{grant.node.name}: {why}", Cause.TIMEOUT)

    def _judge(self, reply: UpstreamReply, node: Node, path: str) -> tuple[bytes, bool]:
        """Return what came, and whether it blames the request; else AttemptError."""
        try:
            return judged(reply, node.name, path)
        except InferOpsError:
            self.release(reply)
            raise

    def watch(self, lease: Lease, attention: Cancellation) -> Watch:
        """Watch over a stream of plain text that has no client."""
        return self.liveness.stream(lease, attention, plain=True)

    def free_elsewhere(self, wish: RoutingRequest, priority: Priority) -> bool:
        """Say whether a node could take a request at once."""
        decision = self._dispatcher.explain(wish, priority)
        return decision.picked is not None and not decision.last_resort

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
        self, grant: Assignment, path: str, error: AttemptError, request_id: str
    ) -> None:
        """Count a failed attempt; a node that cannot be reached is held at once."""
        node = grant.node.name
        self._tally.attempted(node, error.reason)
        if isinstance(error, NotSentError | GoneError):
            # The router's own evidence first; a probe brings the node back.
            why = str(error)
            hold = Hold(node, HoldKind.DOWN, "traffic", why, time.time())
            if self._holds.find_down(hold):
                log.warning("node is down", node=node, why=why, request_id=request_id)
        self.course.charge(grant, path, error, request_id)

    def forgive(self, request_id: str) -> None:
        """Charge nodes no more with what was the request's own fault."""
        self.course.forgive(request_id)


# Where no other node is left: Ollama starts another runner by itself.
_ASKED_AGAIN = frozenset({Cause.RUNNER_DIED, Cause.LOAD_FAILED, Cause.GPU_ERROR})
