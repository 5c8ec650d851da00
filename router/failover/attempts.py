"""Attempts on one node after the other, until a reply can be given to the client.

Nothing has been sent to the client yet in here; what happens to a stream that
is under way is the pump's and the frame's affair.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from router.cancellation import Attention, StoppedError
from router.capacity.ledger import Lease
from router.errors import (
    AttemptError,
    EvictedError,
    MaybeSentError,
    NotFoundError,
    NotSentError,
    RefusedError,
    RunnerDiedError,
    UnavailableError,
)
from router.failover.dead_runner import DIED, DeadRunners
from router.failover.liveness import Liveness, Watch
from router.failover.retry import RetryBudget, runner_died, speaks_of_node
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Hold, HoldKind, Node, Outcome, Priority
from router.relay.framing import message_in
from router.relay.pool import Backends, Message
from router.relay.upstream import Reply
from router.scheduling.pipeline import Wish
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
    """How often a request may be tried."""

    attempts: int


@dataclass(frozen=True, slots=True)
class Call:
    """A client's request on its way; `deadline` in the router's monotonic time."""

    wish: Wish
    message: Message
    priority: Priority
    deadline: float
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Presented:
    """A reply that the client may have; its slot is still taken."""

    reply: Reply
    lease: Lease
    body: bytes


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
        budget: RetryBudget,
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
        self.liveness = liveness
        self.runners = runners
        self._clock = clock

    def present(self, call: Call, attention: Attention, trail: Trail) -> Presented:
        """Return the first reply that speaks to the request.

        Raises RequestError, AttemptError (the last one, when no node is left),
        StoppedError.
        """
        self.budget.deposit()

        def take(grant: Grant) -> Presented:
            return self.take(grant, call.message, attention)

        return self.attempt(call, attention, trail, take)

    def attempt(
        self,
        call: Call,
        attention: Attention,
        trail: Trail,
        take: Callable[[Grant], T],
    ) -> T:
        """Do `take` with a slot of one node after the other until one succeeds.

        It gives the slot back when it fails. Where no other node is free, the last is
        asked once more if just its runner died. Raises what `present` raises.
        """
        before = call.wish.tried
        tried: set[str] = set()
        node, asked_again = "", False
        last: AttemptError | None = None
        while True:
            wish = replace(call.wish, tried=before | tried) if tried else call.wish
            if not asked_again and _runner_died(last):
                asked_again = not self.free_elsewhere(wish, call.priority)
                if asked_again:
                    tried.discard(node)
                    continue
            try:
                grant = self._acquire(call, wish, attention)
            except (NotFoundError, UnavailableError):
                if last and not isinstance(last, EvictedError):
                    raise last from None
                raise
            step = Step.of(grant.decision)
            trail.steps.append(step)
            try:
                return take(grant)
            except AttemptError as error:
                step.failure = str(error)
                last = error
                node = grant.node.name
                tried.add(node)
                self.note(grant.node, error, trail.request_id)
                if not self._may_retry(error, len(tried) + asked_again):
                    raise

    def _acquire(self, call: Call, wish: Wish, attention: Attention) -> Grant:
        began = self._clock()
        grant = self._dispatcher.acquire(wish, call.priority, attention, call.deadline)
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
            reply = self._sent(grant.node, message, attention)
            reply = self._answered(reply, grant, message, attention)
            presented = Presented(reply, grant.lease, self._judge(reply, grant.node))
        except StoppedError as error:
            outcome = error.outcome
            raise
        except EvictedError:
            outcome = Outcome.EVICTED
            raise
        except RefusedError as error:
            self.runners.note(grant.lease, str(error))
            raise
        finally:
            if presented is None:
                grant.lease.done(outcome)
        self._tally.attempted(grant.node.name, "presented")
        if reply.gate:
            self.runners.spoke(grant.lease)
        return presented

    def fetch(
        self,
        grant: Grant,
        messages: Sequence[Message],
        attention: Attention,
        *,
        within_seconds: float | None = None,
    ) -> list[tuple[int, bytes]]:
        """Ask for whole replies, all at one time, on a slot that is held already.

        Returns status and body of each. Raises AttemptError, StoppedError.
        """
        node = grant.node
        replies: deque[Reply] = deque()
        try:
            replies.extend(self._sent(node, each, attention) for each in messages)
            fetched = []
            for message in messages:
                reply = replies.popleft()
                reply = self._answered(reply, grant, message, attention, within_seconds)
                body = self._judge(reply, node)
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
        self, node: Node, message: Message, attention: Attention, *, fresh: bool = False
    ) -> Reply:
        return Reply(self._backends.send(node, message, fresh=fresh), attention)

    def _answered(
        self,
        reply: Reply,
        grant: Grant,
        message: Message,
        attention: Attention,
        within_seconds: float | None = None,
    ) -> Reply:
        """Sleep until the reply can be judged."""
        self._wait(reply, grant, attention, within_seconds)
        unread = not reply.bytes_seen and not (reply.evicted or reply.runner_died)
        if reply.broken and unread and reply.connection.reused:
            # It was closed while idle, and the request crossed the close.
            self.release(reply)
            reply = self._sent(grant.node, message, attention, fresh=True)
            self._wait(reply, grant, attention, within_seconds)
        return reply

    def _wait(
        self,
        reply: Reply,
        grant: Grant,
        attention: Attention,
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
            raise MaybeSentError(f"{grant.node.name}: {why}")

    def _judge(self, reply: Reply, node: Node) -> bytes:
        """Return what came; raise where the node, not the request, is at fault."""
        body = reply.take()
        if reply.evicted:
            self.release(reply)
            raise EvictedError(f"{node.name}: the node is being emptied")
        if reply.runner_died:
            self.release(reply)
            raise RunnerDiedError(f"{node.name}: {DIED}", status=500, body=b"")
        if reply.gate and reply.gate.failure is not None:
            self.release(reply)
            text = reply.gate.failure
            raise RefusedError(f"{node.name}: {text}", status=500, body=b"")
        if reply.head is None or (reply.over and reply.outcome() is not Outcome.END):
            self.release(reply)
            why = reply.broken or "the stream ended before its last line"
            raise MaybeSentError(f"{node.name}: {why}")
        status = reply.head.status
        if status >= 400 and speaks_of_node(status, body):
            self.release(reply)
            text = message_in(body) or reply.head.reason
            raise RefusedError(
                f"{node.name}: {status}: {text}", status=status, body=body
            )
        return body

    def watch(self, lease: Lease, attention: Attention) -> Watch:
        """Watch over a stream of plain text that has no client."""
        return self.liveness.stream(lease, attention, plain=True)

    def free_elsewhere(self, wish: Wish, priority: Priority) -> bool:
        """Say whether a node could take a request at once."""
        return self._dispatcher.explain(wish, priority).picked is not None

    def broke_off(self, lease: Lease, reply: Reply, *, wordless: bool = False) -> None:
        """Take what the end of a broken stream says of others on its node.

        wordless: on its route a dead runner leaves an end without any word
        """
        if reply.runner_died:
            return
        if reply.gate and reply.gate.failure is not None:
            self.runners.note(lease, reply.gate.failure)
        elif wordless and reply.broken is None:
            self.runners.doubt(lease)

    def release(self, reply: Reply) -> None:
        """Finish with a reply: its connection is kept where it can be."""
        if reply.close():
            self._backends.give_back(reply.connection)

    def note(self, node: Node, error: AttemptError, request_id: str) -> None:
        """Count a failed attempt; a node that cannot be reached is held at once."""
        self._tally.attempted(node.name, error.reason)
        if isinstance(error, NotSentError):
            # The router's own evidence first; a probe brings the node back.
            why = str(error)
            hold = Hold(node.name, HoldKind.DOWN, "traffic", why, time.time())
            if self._holds.find_down(hold):
                log.warning(
                    "node is down", node=node.name, why=why, request_id=request_id
                )

    def _may_retry(self, error: AttemptError, attempts: int) -> bool:
        if isinstance(error, EvictedError):
            # Not the request's doing, and each node is tried once at most.
            self._tally.retried(error.reason)
            return True
        if attempts >= self.limits.attempts:
            return False
        # Where nothing was sent, no load was caused, and where another request saw the
        # runner die this one did nothing: no budget is needed.
        free = isinstance(error, (NotSentError, RunnerDiedError))
        if not free and not self.budget.withdraw():
            return False
        self._tally.retried(error.reason)
        return True


def _runner_died(error: AttemptError | None) -> bool:
    return isinstance(error, RefusedError) and runner_died(str(error))
