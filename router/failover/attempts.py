"""Attempts on one node after the other, until a reply can be given to the client.

Nothing has been sent to the client yet in here; what happens to a stream that
is under way is the pump's and the frame's affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from router.cancellation import Attention, StoppedError
from router.capacity.ledger import Lease
from router.errors import (
    AttemptError,
    EndsRunnersError,
    EvictedError,
    GoneError,
    MaybeSentError,
    NotFoundError,
    NotSentError,
    OtherBuildError,
    RefusedError,
    UnavailableError,
    UnclearError,
)
from router.failover.builds import Builds, with_note
from router.failover.findings import Aboard, Finding, Findings, build_of
from router.failover.isolation import Isolation
from router.failover.judgement import judged
from router.failover.retry import RetryBudget
from router.health.circuit import Failure
from router.health.circuits import Circuits
from router.health.offenders import may_end_runners
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Cause, Hold, HoldKind, Node, Outcome, Priority
from router.relay.pool import Backends, Message
from router.relay.upstream import Reply
from router.scheduling.pipeline import BUSY, Wish
from router.scheduling.queue import Grant
from router.scheduling.scheduler import Dispatcher
from router.scheduling.trace import Step, Trail

T = TypeVar("T")

log = get_logger("failover")


class Tally(Protocol):
    """What attempts are counted with."""

    def queued(self, priority: Priority, seconds: float) -> None: ...

    def attempted(self, node: str, outcome: str) -> None: ...

    def retried(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often; seconds."""

    attempts: int
    first_byte_seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """A client's request on its way; `deadline` in the router's monotonic time.

    findings: what its attempts found out, over all legs of its stream
    """

    wish: Wish
    message: Message
    priority: Priority
    deadline: float
    streams: bool = False
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class Presented:
    """A reply that the client may have; its slot is still taken.

    refused: whether the node says that the request is wrong
    """

    reply: Reply
    lease: Lease
    body: bytes
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Learned:
    """What attempts have taught of nodes, of builds and of requests."""

    circuits: Circuits
    isolation: Isolation
    builds: Builds


class Failover:
    """Tries nodes in turn, within the number of attempts and the retry budget."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        backends: Backends,
        holds: HoldStore,
        tally: Tally,
        limits: Limits,
        *,
        learned: Learned,
        budget: RetryBudget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._backends = backends
        self._holds = holds
        self._tally = tally
        self.limits = limits
        self.learned = learned
        self.budget = budget
        self._clock = clock

    def present(self, call: Call, attention: Attention, trail: Trail) -> Presented:
        """Return the first reply that speaks to the request.

        Raises RequestError, AttemptError (the last one, when no node is left),
        StoppedError.
        """
        self.budget.deposit()
        self.learned.isolation.admit(call.findings)

        def take(grant: Grant) -> Presented:
            presented = self.take(grant, call.message, attention)
            return self._by_build(call, grant, presented)

        return self.attempt(call, attention, trail, take)

    def attempt(
        self,
        call: Call,
        attention: Attention,
        trail: Trail,
        take: Callable[[Grant], T],
    ) -> T:
        """Do `take` with a slot of one node after the other until one succeeds.

        It gives the slot back when it fails. Where no other node is left, the last is
        asked once more if just its runner died. Raises what `present` raises.
        """
        found = call.findings
        tried: set[str] = set()
        node, asked_again = "", False
        last: AttemptError | None = None
        while True:
            wish = call.wish
            if tried:
                wish = replace(wish, tried=wish.tried | tried)
            wish = self.learned.isolation.place(wish, found, node)
            # Who has an answer to give does not wait for a node that is switched off.
            patient = not isinstance(last, RefusedError)
            try:
                grant = self._acquire(call, wish, attention, patient=patient)
            except (NotFoundError, UnavailableError):
                if not asked_again and last and last.cause in _ASKED_AGAIN:
                    asked_again = True
                    tried.discard(node)
                    continue
                self._given_up(found, trail)
                if last and not isinstance(last, EvictedError):
                    raise found.aside or last from None
                raise
            step = Step.of(grant.decision)
            trail.steps.append(step)
            self.learned.isolation.board(grant.lease, found)
            credible = self.learned.circuits.healthy(grant.node.name, call.wish.model)
            try:
                return take(grant)
            except AttemptError as error:
                step.failure = str(error)
                last, node = error, grant.node.name
                self.note(grant, call.message.path, error, trail.request_id)
                if isinstance(error, NotSentError) and node not in found.unreached:
                    found.unreached.add(node)  # once it is back, it may be asked again
                else:
                    tried.add(node)
                tried |= self._take_down(call, grant, error, credible=credible)
                self._blame(call, grant, error, trail)
                if not self._goes_on(call, error, tried, len(tried) + asked_again):
                    self._given_up(found, trail)
                    raise found.aside or error from None

    def _acquire(
        self, call: Call, wish: Wish, attention: Attention, *, patient: bool
    ) -> Grant:
        began = self._clock()
        grant = self._dispatcher.acquire(
            wish, call.priority, attention, call.deadline, patient=patient
        )
        self._tally.queued(call.priority, self._clock() - began)
        grant.lease.streams = call.streams
        grant.lease.tried = wish.tried
        picked = grant.decision.picked
        if picked and picked.view.resident is not None:
            grant.lease.resident = call.wish.model in picked.view.resident
        return grant

    def take(self, grant: Grant, message: Message, attention: Attention) -> Presented:
        """One attempt; the slot is given back unless the reply is presented."""
        outcome = Outcome.REFUSED
        presented = None
        try:
            reply = self._exchange(grant.node, message, attention, grant.lease)
            body, refused = self._judge(reply, grant.node, message.path)
            presented = Presented(reply, grant.lease, body, refused)
        except StoppedError as error:
            outcome = error.outcome
            raise
        except AttemptError as error:
            if isinstance(error, EvictedError):
                outcome = Outcome.EVICTED
            # First: giving the slot back has the next request sent there.
            self._charge(grant, message.path, error, _request_id(message))
            raise
        finally:
            if presented is None:
                grant.lease.done(outcome)
        node, lease = grant.node.name, grant.lease
        self._tally.attempted(node, "presented")
        if not refused:
            circuits = self.learned.circuits
            circuits.succeeded(node, lease.model, began_at=lease.taken_at)
        return presented

    def fetch(
        self, node: Node, message: Message, attention: Attention
    ) -> tuple[int, bytes]:
        """Ask for a whole reply on a slot that is held already: status and body.

        Raises AttemptError, StoppedError.
        """
        reply = self._exchange(node, message, attention)
        body, _ = self._judge(reply, node, message.path)
        status = reply.head.status if reply.head else 0
        self.release(reply)
        return status, body

    def _exchange(
        self,
        node: Node,
        message: Message,
        attention: Attention,
        lease: Lease | None = None,
    ) -> Reply:
        """Send, and sleep until the reply can be judged."""
        reply = self._ask(node, message, attention, lease, fresh=False)
        unread = not reply.bytes_seen and not reply.evicted
        if reply.broken and unread and reply.connection.reused:
            # It was closed while idle, and the request crossed the close.
            self.release(reply)
            try:
                reply = self._ask(node, message, attention, lease, fresh=True)
            except NotSentError as error:  # or this request ended the server
                raise GoneError(str(error), Cause.RESET) from error
        return reply

    def _ask(
        self,
        node: Node,
        message: Message,
        attention: Attention,
        lease: Lease | None,
        *,
        fresh: bool,
    ) -> Reply:
        reply = Reply(self._backends.send(node, message, fresh=fresh), attention)
        if lease is not None:
            lease.reply = reply  # what an eviction cuts
        deadline = self._clock() + self.limits.first_byte_seconds
        try:
            in_time = attention.until(lambda: reply.presentable, deadline, self._clock)
        except BaseException:
            # Closing is what frees the slot in Ollama.
            self.release(reply)
            raise
        if not in_time:
            self.release(reply)
            seconds = self.limits.first_byte_seconds
            text = f"{node.name}: no reply within {seconds:g} s"
            raise MaybeSentError(text, Cause.TIMEOUT)
        return reply

    def _judge(self, reply: Reply, node: Node, path: str) -> tuple[bytes, bool]:
        """Return what came, and whether it blames the request; else AttemptError."""
        try:
            return judged(reply, node.name, path)
        except AttemptError:
            self.release(reply)
            raise

    def release(self, reply: Reply) -> None:
        """Finish with a reply: its connection is kept where it can be."""
        if reply.close():
            self._backends.give_back(reply.connection)

    def note(
        self, grant: Grant, path: str, error: AttemptError, request_id: str
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
        self._charge(grant, path, error, request_id)

    def _charge(
        self, grant: Grant, path: str, error: AttemptError, request_id: str
    ) -> None:
        """Tell the node's circuits of a failure, once."""
        counts = isinstance(error, MaybeSentError | RefusedError)
        if error.charged or not counts or error.cause == Cause.TOO_LARGE:
            return
        error.charged = True
        node, lease = grant.node.name, grant.lease
        failure = Failure(
            self._clock(), Cause(error.cause), str(error), request_id, path, lease.model
        )
        circuits = self.learned.circuits
        circuits.failed(node, lease.model, failure, began_at=lease.taken_at)

    def forgive(self, request_id: str) -> None:
        """Charge nodes no more with what was the request's own fault."""
        self.learned.circuits.forgive(request_id)

    def settle(self, call: Call, node: str, outcome: Outcome) -> None:
        """Remember a request under which runners died, once it is over."""
        broke = outcome in {Outcome.EOF, Outcome.ERROR_LINE, Outcome.REFUSED}
        last = self.learned.builds.node(node)
        aboard = None
        if broke and last:
            aboard = Aboard(last, call.wish.model, call.message.path)
        if aboard or outcome is Outcome.END:
            self.learned.isolation.settle(call.findings, aboard)

    # Whose fault it is, and what follows

    def _by_build(self, call: Call, grant: Grant, presented: Presented) -> Presented:
        """Have another build asked before the client hears that its request is wrong.

        Raises OtherBuildError, with this answer, where there is one to be asked.
        """
        picked = grant.decision.picked
        if not presented.refused or picked is None:
            return presented
        builds, model = self.learned.builds, call.wish.model
        call.findings.refused.add(build_of(picked.view, model))
        body = presented.body
        if note := builds.note(model):
            body = with_note(body, note)
        others = call.wish.tried | builds.nodes(call.findings.refused, model)
        decision = self._dispatcher.explain(replace(call.wish, tried=others))
        if not (decision.picked or decision.busy):
            return replace(presented, body=body)
        self.release(presented.reply)
        presented.lease.done(Outcome.REFUSED)
        head = presented.reply.head
        assert head is not None  # noqa: S101 - a presented reply has one
        raise OtherBuildError(
            f"{grant.node.name}: {head.status}: refused by this build",
            status=head.status,
            body=body,
            headers=head.headers,
        )

    def _take_down(
        self, call: Call, grant: Grant, error: AttemptError, *, credible: bool
    ) -> frozenset[str]:
        """Keep what a node said; return the nodes that would say the same."""
        found, model, node = call.findings, call.wish.model, grant.node.name
        if isinstance(error, OtherBuildError):
            found.aside = found.aside or error
            return self.learned.builds.nodes(found.refused, model)
        if isinstance(error, RefusedError) and grant.decision.picked:
            build = build_of(grant.decision.picked.view, model)
            unclear = isinstance(error, UnclearError)
            text = str(error).removeprefix(f"{node}: ")
            found.found.append(Finding(node, build, text, unclear, credible))
        return frozenset()

    def _blame(
        self, call: Call, grant: Grant, error: AttemptError, trail: Trail
    ) -> None:
        """Look into a runner's death. Raises EndsRunnersError: no node is at fault."""
        went_down = isinstance(error, EvictedError) and self._is_down(grant.node)
        if not (went_down or may_end_runners(error.cause, call.message.body)):
            return
        aboard = Aboard(grant.node, call.wish.model, call.message.path)
        try:
            self.learned.isolation.blame(grant.lease, aboard, call.findings, error)
        except EndsRunnersError:
            self.forgive(trail.request_id)
            raise

    def _is_down(self, node: Node) -> bool:
        return any(hold.kind is HoldKind.DOWN for hold in self._holds.of(node.name))

    def _goes_on(
        self, call: Call, error: AttemptError, tried: set[str], attempts: int
    ) -> bool:
        """Say whether another node is asked.

        The first retry is free, and so is one on a node of which nothing bad is known:
        circuits bound those. The number of attempts and the budget bound the others.
        """
        if isinstance(error, EvictedError | OtherBuildError):
            goes_on = True  # each node, or build, is asked once at most
        elif call.findings.agreed:
            goes_on = False
        elif attempts <= 1 < self.limits.attempts:
            goes_on = True
        elif isinstance(error, UnclearError) or not self._well_elsewhere(call, tried):
            # Where nothing was sent, no load was caused: no budget is needed.
            free = isinstance(error, NotSentError)
            goes_on = attempts < self.limits.attempts
            goes_on = goes_on and (free or self.budget.withdraw())
        else:
            goes_on = True
        if goes_on:
            self._tally.retried(error.reason)
        return goes_on

    def _well_elsewhere(self, call: Call, tried: set[str]) -> bool:
        """Say whether a node that has not failed could take it, now or soon."""
        model = call.wish.model
        wish = replace(call.wish, tried=call.wish.tried | tried)
        decision = self._dispatcher.explain(wish)
        names = [each.name for each in decision.candidates]
        names += [n for n, reason in decision.rejected.items() if reason == BUSY]
        return any(self.learned.circuits.healthy(name, model) for name in names)

    def _given_up(self, found: Findings, trail: Trail) -> None:
        """Charge no node where all that could be asked blame the request alike."""
        if found.agreed or found.unanimous:
            self.forgive(trail.request_id)


# Where no other node is left: Ollama starts another runner by itself.
_ASKED_AGAIN = frozenset({Cause.RUNNER_DIED, Cause.LOAD_FAILED, Cause.GPU_ERROR})


def _request_id(message: Message) -> str:
    return message.headers.get("X-Request-Id", "")
