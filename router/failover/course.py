"""What follows from a failed attempt: who is charged, who is asked next, or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from router.errors import (
    AttemptError,
    EndsRunnersError,
    EvictedError,
    MaybeSentError,
    NotSentError,
    OtherBuildError,
    RefusedError,
    RunnerDiedError,
    UnclearError,
)
from router.failover.builds import Builds, with_note
from router.failover.findings import Aboard, Finding, Findings, build_of
from router.failover.isolation import Isolation
from router.failover.proxied import ProxiedRequest
from router.failover.retry import RetryBudget
from router.health.circuit import Failure
from router.health.circuits import Circuits
from router.health.offenders import may_end_runners
from router.holds.store import HoldStore
from router.model import Cause, HoldKind, Node, Outcome
from router.scheduling.pipeline import BUSY, Decision, RoutingRequest
from router.scheduling.queue import Assignment

__all__ = ["Course", "Retries", "TrafficKnowledge"]


class Retries(Protocol):
    """What retries are counted with."""

    def retried(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class TrafficKnowledge:
    """What attempts have taught of nodes, of builds and of requests."""

    circuits: Circuits
    isolation: Isolation
    builds: Builds


class Course:
    """Decides what follows from a failed attempt; sends nothing itself."""

    def __init__(
        self,
        learned: TrafficKnowledge,
        explain: Callable[[RoutingRequest], Decision],
        holds: HoldStore,
        tally: Retries,
        budget: RetryBudget,
        *,
        attempts: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        """Prepare; `attempts` is how many a request may have, the first included."""
        self._circuits = learned.circuits
        self._isolation = learned.isolation
        self._builds = learned.builds
        self._explain = explain
        self._holds = holds
        self._tally = tally
        self._budget = budget
        self._attempts = attempts
        self._clock = clock

    # Before an attempt

    def admit(self, call: ProxiedRequest) -> None:
        """Raise EndsRunnersError for a request that is known to end runners."""
        self._isolation.admit(call.findings)

    def place(
        self, routing: RoutingRequest, found: Findings, last: str
    ) -> RoutingRequest:
        """Keep a request from others' streams if it may end a runner, and from builds
        that would refuse it, where other nodes will do.
        """
        routing = self._isolation.place(routing, found, last)
        if refusing := self._builds.refusing(routing.model, found.body) - routing.tried:
            choice = routing._replace(spared=routing.spared | refusing)
            decision = self._explain(choice)
            if decision.at_once or decision.busy:
                return choice
        return routing

    def begins(self, assignment: Assignment, found: Findings) -> bool:
        """Note who is on the slot; returns whether its node is a credible witness."""
        self._isolation.board(assignment.lease, found)
        return self._circuits.healthy(assignment.node.name, assignment.lease.model)

    # After it

    def learn_refusals(self, call: ProxiedRequest) -> None:
        """Remember which builds refused a request that another has answered."""
        if refused := call.findings.refused:
            model, body = call.routing.model, call.findings.body
            self._builds.refusals.learn(model, body, refused)

    def answered(self, assignment: Assignment) -> None:
        """Take in an answer: a stream's first line, or a whole reply."""
        node, lease = assignment.node.name, assignment.lease
        self._circuits.succeeded(node, lease.model, began_at=lease.taken_at)

    def charge(
        self, assignment: Assignment, path: str, error: AttemptError, request_id: str
    ) -> None:
        """Tell the node's circuits of a failure, once."""
        counts = isinstance(error, MaybeSentError | RefusedError)
        if error.charged or not counts or error.cause == Cause.TOO_LARGE:
            return
        error.charged = True
        node, lease = assignment.node.name, assignment.lease
        cause, now = Cause(error.cause), self._clock()
        failure = Failure(now, cause, str(error), request_id, path, lease.model)
        self._circuits.failed(node, lease.model, failure, began_at=lease.taken_at)

    def forgive(self, request_id: str) -> None:
        """Charge nodes no more with what was the request's own fault."""
        self._circuits.forgive(request_id)

    def other_build(
        self, call: ProxiedRequest, assignment: Assignment, body: bytes
    ) -> tuple[bytes, bool]:
        """Say whether another build might think better of a request than this one.

        Returns its answer, with a note of the builds where there are several.
        """
        found, model = call.findings, call.routing.model
        if assignment.decision.picked is None:
            return body, False
        found.refused.add(build_of(assignment.decision.picked.view, model))
        if note := self._builds.note(model):
            body = with_note(body, note)
        tried = call.routing.tried | self._builds.nodes(found.refused, model)
        decision = self._explain(call.routing._replace(tried=tried))
        return body, decision.possible

    def failed(
        self,
        call: ProxiedRequest,
        assignment: Assignment,
        error: AttemptError,
        request_id: str,
        *,
        credible: bool,
    ) -> frozenset[str]:
        """Keep what a node said; return other nodes that would say the same.

        Raises EndsRunnersError where the request, and no node, is at fault.
        """
        self._look_for_deaths(call, assignment, error, request_id)
        found, model, node = call.findings, call.routing.model, assignment.node.name
        if isinstance(error, OtherBuildError):
            found.aside = found.aside or error
            return self._builds.nodes(found.refused, model)
        if isinstance(error, RefusedError) and assignment.decision.picked:
            build = build_of(assignment.decision.picked.view, model)
            unclear = isinstance(error, UnclearError)
            text = str(error).removeprefix(f"{node}: ")
            found.found.append(Finding(node, build, text, unclear, credible))
        return frozenset()

    def goes_on(
        self, call: ProxiedRequest, error: AttemptError, tried: set[str], attempts: int
    ) -> bool:
        """Say whether another node is asked.

        The first retry is free, and so is one on a node of which nothing bad is known:
        circuits bound those. The number of attempts and the budget bound the others.
        """
        most = self._attempts()
        if isinstance(error, EvictedError | OtherBuildError):
            goes_on = True  # each node, or build, is asked once at most
        elif call.findings.agreed:
            goes_on = False
        elif attempts <= 1 < most:
            goes_on = True
        elif isinstance(error, UnclearError) or not self._well_elsewhere(call, tried):
            # Where nothing was sent, no load was caused, and where another request saw
            # the runner die this one did nothing: no budget is needed.
            free = isinstance(error, NotSentError | RunnerDiedError)
            goes_on = attempts < most and (free or self._budget.withdraw())
        else:
            goes_on = True
        if goes_on:
            self._tally.retried(error.reason)
        return goes_on

    def given_up(self, found: Findings, request_id: str) -> None:
        """Charge no node where all that could be asked blame the request alike."""
        if found.agreed or found.unanimous:
            self.forgive(request_id)

    def settle(self, call: ProxiedRequest, node: str, outcome: Outcome) -> None:
        """Remember a request under which runners died, once it is over."""
        broke = outcome in {Outcome.EOF, Outcome.ERROR_LINE, Outcome.REFUSED}
        last = self._builds.node(node)
        aboard = None
        if broke and last:
            aboard = Aboard(last, call.routing.model, call.message.path)
        if aboard or outcome is Outcome.END:
            self._isolation.settle(call.findings, aboard)

    # Inside

    def _look_for_deaths(
        self,
        call: ProxiedRequest,
        assignment: Assignment,
        error: AttemptError,
        request_id: str,
    ) -> None:
        went_down = isinstance(error, EvictedError) and self._is_down(assignment.node)
        if not (went_down or may_end_runners(error.cause, call.message.body)):
            return
        aboard = Aboard(assignment.node, call.routing.model, call.message.path)
        try:
            self._isolation.blame(assignment.lease, aboard, call.findings, error)
        except EndsRunnersError:
            self.forgive(request_id)
            raise

    def _is_down(self, node: Node) -> bool:
        return any(hold.kind is HoldKind.DOWN for hold in self._holds.of(node.name))

    def _well_elsewhere(self, call: ProxiedRequest, tried: set[str]) -> bool:
        """Say whether a node that has not failed could take it, now or soon."""
        model = call.routing.model
        routing = call.routing._replace(tried=call.routing.tried | tried)
        decision = self._explain(routing)
        names = [each.name for each in decision.candidates]
        names += [n for n, reason in decision.rejected.items() if reason == BUSY]
        return any(self._circuits.healthy(name, model) for name in names)
