"""Attempts on one node after the other, until a reply can be given to the client.

Nothing has been sent to the client yet in here; what happens to a stream that
is under way is the pump's and the frame's affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
    RouteMissingError,
    UnavailableError,
)
from router.failover.releases import Releases
from router.failover.retry import RetryBudget, runner_died, speaks_of_node
from router.holds.store import HoldStore
from router.logs.events import get_logger
from router.model import Hold, HoldKind, Node, Outcome, Priority
from router.relay.framing import message_in
from router.relay.pool import Backends, Message
from router.relay.protocols import NO_ROUTE, ROUTES, lacks_route
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
    """How long and how often; seconds."""

    attempts: int
    first_byte_seconds: float


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
        releases: Releases,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._backends = backends
        self._holds = holds
        self._tally = tally
        self.limits = limits
        self.budget = budget
        self._releases = releases
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

        It gives the slot back when it fails. Where no other node is left, the last is
        asked once more if just its runner died. Raises what `present` raises.
        """
        before = call.wish.tried
        tried: set[str] = set()
        path = call.message.path
        lacking = self._releases.lacking(path)
        node, asked_again = "", False
        last: AttemptError | None = None
        while True:
            past = before | tried | lacking
            wish = replace(call.wish, tried=past) if past != before else call.wish
            try:
                grant = self._acquire(call, wish, attention)
            except (NotFoundError, UnavailableError):
                if not asked_again and _runner_died(last):
                    asked_again = True
                    tried.discard(node)
                    continue
                if last and not isinstance(last, EvictedError):
                    raise last from None
                if self._releases.all_lack(path, call.wish.model):
                    raise route_missing("every node", path) from None
                raise
            step = Step.of(grant.decision, grant.lease)
            trail.steps.append(step)
            try:
                return take(grant)
            except AttemptError as error:
                step.failure = str(error)
                last = error
                node = grant.node.name
                if isinstance(error, RouteMissingError):
                    self._releases.note(path, node)
                    lacking = self._releases.lacking(path)
                    self._tally.attempted(node, error.reason)
                    continue
                tried.add(node)
                self.note(grant.node, error, trail.request_id)
                if not self._may_retry(error, len(tried) + asked_again):
                    raise

    def _acquire(self, call: Call, wish: Wish, attention: Attention) -> Grant:
        began = self._clock()
        grant = self._dispatcher.acquire(wish, call.priority, attention, call.deadline)
        self._tally.queued(call.priority, self._clock() - began)
        grant.lease.streams = call.streams
        grant.lease.continued = call.priority is Priority.CONTINUED
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
            body = self._judge(reply, grant.node, message.path)
            presented = Presented(reply, grant.lease, body)
        except StoppedError as error:
            outcome = error.outcome
            raise
        except EvictedError:
            outcome = Outcome.EVICTED
            raise
        finally:
            if presented is None:
                grant.lease.done(outcome)
        self._tally.attempted(grant.node.name, "presented")
        return presented

    def fetch(
        self, node: Node, message: Message, attention: Attention
    ) -> tuple[int, bytes]:
        """Ask for a whole reply on a slot that is held already: status and body.

        Raises AttemptError, StoppedError.
        """
        reply = self._exchange(node, message, attention)
        body = self._judge(reply, node, message.path)
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
            reply = self._ask(node, message, attention, lease, fresh=True)
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
        reply.open_ended = message.path not in ROUTES
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
            raise MaybeSentError(f"{node.name}: no reply within {seconds:g} s")
        return reply

    def _judge(self, reply: Reply, node: Node, path: str) -> bytes:
        """Return what came; raise where the node, not the request, is at fault."""
        body = reply.take()
        if reply.evicted:
            self.release(reply)
            raise EvictedError(f"{node.name}: the node is being emptied")
        if reply.no_room:
            self.release(reply)
            raise reply.no_room
        if reply.gate and reply.gate.failure is not None:
            self.release(reply)
            text = reply.gate.failure
            raise RefusedError(f"{node.name}: {text}", status=500, body=b"")
        if reply.head is None or (reply.over and reply.outcome() is not Outcome.END):
            self.release(reply)
            why = reply.broken or "the stream ended before its last line"
            raise MaybeSentError(f"{node.name}: {why}")
        status = reply.head.status
        if lacks_route(path, status, body):
            self.release(reply)
            raise route_missing(node.name, path)
        if status >= 400 and speaks_of_node(status, body):
            self.release(reply)
            text = message_in(body) or reply.head.reason
            raise RefusedError(
                f"{node.name}: {status}: {text}", status=status, body=body
            )
        return body

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
        # Where nothing was sent, no load was caused: no budget is needed.
        if not isinstance(error, NotSentError) and not self.budget.withdraw():
            return False
        self._tally.retried(error.reason)
        return True


def route_missing(node: str, path: str) -> RouteMissingError:
    why = f"{node}: its release has no {path}"
    return RouteMissingError(why, status=404, body=NO_ROUTE)


def _runner_died(error: AttemptError | None) -> bool:
    return isinstance(error, RefusedError) and runner_died(str(error))
