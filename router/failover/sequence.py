"""On which nodes a request is tried, one after the other, and when no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from router.errors import (
    AttemptError,
    EvictedError,
    NotFoundError,
    NotSentError,
    RefusedError,
    RouteMissingError,
    UnavailableError,
)
from router.failover.course import Course, Retries
from router.failover.judgement import route_missing
from router.failover.proxied import ProxiedRequest
from router.failover.releases import Releases
from router.model import Cause, Priority
from router.runtime.cancellation import Cancellation
from router.scheduling.pipeline import RoutingRequest
from router.scheduling.queue import Assignment
from router.scheduling.scheduler import Scheduler
from router.scheduling.trace import DecisionTrace, TraceStep

__all__ = ["AttemptCounters", "AttemptSequence", "SequenceDependencies"]

# Where no other node is left: Ollama starts another runner by itself.
_ASKED_AGAIN = frozenset({Cause.RUNNER_DIED, Cause.LOAD_FAILED, Cause.GPU_ERROR})


class AttemptCounters(Retries, Protocol):
    """What attempts are counted with."""

    def scheduled(
        self, priority: Priority, waited: float, reason: str, trace_id: str = ""
    ) -> None: ...

    def attempted(self, node: str, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SequenceDependencies:
    """What all requests' attempts share.

    note: counts a failed attempt (slot, path, error, request id)
    """

    scheduler: Scheduler
    course: Course
    releases: Releases
    tally: AttemptCounters
    note: Callable[[Assignment, str, AttemptError, str], None]
    clock: Callable[[], float]

    def free_elsewhere(self, routing: RoutingRequest, priority: Priority) -> bool:
        """Say whether a node could take a request at once."""
        return self.scheduler.explain(routing, priority).at_once


class AttemptSequence:
    """One request's attempts: `next` gives a slot, `failed` how an attempt ended.

    Who takes a slot tries its node and gives the slot back when that fails:

        while True:
            assignment = attempts.next()
            try:
                return attempt(assignment)
            except AttemptError as error:
                attempts.failed(error)

    Where no other node is free, the last is asked once more if just its runner died.
    """

    __slots__ = (
        *("_again", "_call", "_cancellation", "_credible", "_assignment", "_lacking"),
        *("_last", "_parts", "_trace", "_tried"),
    )

    def __init__(
        self,
        parts: SequenceDependencies,
        call: ProxiedRequest,
        cancellation: Cancellation,
        trace: DecisionTrace,
    ) -> None:
        self._parts = parts
        self._call = call
        self._cancellation = cancellation
        self._trace = trace
        # Nodes whose release does not have the route.
        self._lacking = parts.releases.lacking(call.message.path)
        self._tried: set[str] = set()
        self._assignment: Assignment | None = None  # of the last attempt
        self._last: AttemptError | None = None
        self._credible = False
        self._again = False  # the last node was asked once more

    def next(self) -> Assignment:
        """Wait for a slot of a node that is to be tried now.

        Raises RequestError, CancelledError, and the last AttemptError where no node is
        left.
        """
        spans, assignment = self._trace.spans, None
        while assignment is None:
            if spans is not None:
                spans.wait(self._parts.clock(), self._call.priority)
            assignment = self._slot()
        if spans is not None:
            assignment.lease.span = spans.attempt(
                assignment.node, assignment.lease.taken_at
            )
        self._assignment = assignment
        self._trace.steps.append(TraceStep.of(assignment.decision, assignment.lease))
        self._credible = self._parts.course.begins(assignment, self._call.findings)
        return assignment

    def failed(self, error: AttemptError) -> None:
        """Take in how the last attempt failed; raises where no other is to be made."""
        parts, call, assignment = self._parts, self._call, self._assignment
        assert assignment is not None  # noqa: S101 - an attempt has a slot
        self._trace.steps[-1].failure = str(error)
        if assignment.lease.span is not None:
            assignment.lease.span.fail(error.reason, error.cause)
        self._last = error.bare()
        found, path, node = call.findings, call.message.path, assignment.node.name
        if isinstance(error, RouteMissingError):
            parts.releases.note(path, node)
            self._lacking = parts.releases.lacking(path)
            parts.tally.attempted(node, error.reason)
            return
        request_id = self._trace.request_id
        parts.note(assignment, path, error, request_id)
        if isinstance(error, NotSentError) and node not in found.unreached:
            found.unreached.add(node)  # once it is back, it may be asked again
        else:
            self._tried.add(node)
        self._tried |= parts.course.failed(
            call, assignment, error, request_id, credible=self._credible
        )
        attempts = len(self._tried) + self._again
        if not parts.course.goes_on(call, error, self._tried, attempts):
            parts.course.given_up(found, request_id)
            raise found.aside or error from None

    def _slot(self) -> Assignment | None:
        """Wait for a slot of another node; None where the last may be asked again."""
        parts, call, last = self._parts, self._call, self._last
        routing = self._routing()
        node = self._assignment.node.name if self._assignment else ""
        died = last is not None and last.cause == Cause.RUNNER_DIED
        again = died and not self._again
        if again and not parts.free_elsewhere(routing, call.priority):
            self._ask_again(node)
            routing = self._routing()
        routing = parts.course.place(routing, call.findings, node)
        # Who has an answer to give does not wait for a node that is switched off.
        patient = not isinstance(last, RefusedError)
        try:
            return self._acquire(routing, patient=patient)
        except (NotFoundError, UnavailableError):
            if not self._again and last and last.cause in _ASKED_AGAIN:
                self._ask_again(node)
                return None
            self._give_up()
            raise

    def _routing(self) -> RoutingRequest:
        """Return what the request asks for, without the nodes that it is done with."""
        past, routing = self._tried | self._lacking, self._call.routing
        return routing._replace(tried=routing.tried | past) if past else routing

    def _ask_again(self, node: str) -> None:
        self._again = True
        self._tried.discard(node)

    def _give_up(self) -> None:
        """Raise what the client is to hear, where attempts have found out anything."""
        parts, call, last = self._parts, self._call, self._last
        parts.course.given_up(call.findings, self._trace.request_id)
        if last and not isinstance(last, EvictedError):
            raise call.findings.aside or last from None
        if parts.releases.all_lack(call.message.path, call.routing.model):
            raise route_missing("every node", call.message.path) from None

    def _acquire(self, routing: RoutingRequest, *, patient: bool) -> Assignment:
        parts, call = self._parts, self._call
        began = parts.clock()
        assignment = parts.scheduler.acquire(
            routing, call.priority, self._cancellation, call.deadline, patient=patient
        )
        waited = parts.clock() - began
        spans = self._trace.spans
        trace_id = spans.trace_id if spans is not None else ""
        reason = assignment.decision.reason
        parts.tally.scheduled(call.priority, waited, reason, trace_id)
        lease = assignment.lease
        lease.account = call.account
        if call.account is not None:
            call.account.queued(waited)
        lease.streams = call.streams
        lease.continued = call.priority is Priority.CONTINUED
        lease.tried = routing.tried
        picked = assignment.decision.picked
        if picked and picked.view.resident is not None:
            lease.resident = call.routing.model in picked.view.resident
        return assignment
