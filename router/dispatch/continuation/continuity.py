"""One client's stream over one node after the other: the shell of a continuation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from router.dispatch.attention import Attention, StoppedError
from router.dispatch.backend import Message
from router.dispatch.continuation.kept import Kept
from router.dispatch.continuation.leg import Leg, SeamGate, Spent, totals_of
from router.dispatch.continuation.original import Original, read_original
from router.dispatch.continuation.proof import Seam, prove
from router.dispatch.continuation.shape import Shape
from router.dispatch.continuation.ways import Body
from router.dispatch.failover import Call, Failover, Presented
from router.dispatch.queue import Grant
from router.dispatch.stream import Timings, message_in
from router.dispatch.trail import Trail
from router.errors import CannotContinueError
from router.model import Outcome

_DONE = b"data: [DONE]\n\n"


class SeamTally(Protocol):
    """What continuations are counted with."""

    def continued(self, pause_seconds: float, tokens: int) -> None: ...


class Continuity:
    """What one stream needs to go on; made when its first line is there.

    A seam's first try is no retry: the slot that it takes is the one that was
    lost. Further tries of a seam come out of the retry budget. Nodes that broke
    this stream are not asked again, and there are at most as many seams as tries:
    a request that kills every runner must not go through the whole fleet.
    """

    def __init__(
        self,
        failover: Failover,
        call: Call,
        attention: Attention,
        trail: Trail,
        tally: SeamTally,
        *,
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.kept = Kept(call.message.path)
        self._failover = failover
        self._call = call
        self._attention = attention
        self._trail = trail
        self._tally = tally
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._began_at = self._leg_began_at = clock()
        self._generate_seconds = 0.0
        self._seams = 0
        self._tokens = 0

    def begin(self, presented: Presented) -> None:
        """Keep what the first leg says."""
        self.kept.add(presented.body)
        if presented.reply.gate:
            presented.reply.gate.keep = self.kept.add

    def go_on(self, node: str, outcome: Outcome) -> Presented | bytes:
        """Return the next leg, or the stream's end where only that is missing.

        Raises CannotContinueError, RequestError, AttemptError, StoppedError.
        """
        cut_at = self._clock()
        self._generate_seconds += cut_at - self._leg_began_at
        if self._trail.steps:
            told = f"{node}: {outcome} after {self.kept.pieces} pieces of text"
            self._trail.steps[-1].failure = told
        self._seams += 1
        if self._seams > self._failover.limits.attempts:
            raise CannotContinueError(f"{self._seams} nodes broke this stream")
        why = self.kept.settle()
        if why:
            raise CannotContinueError(why)
        original = read_original(self._call.message.path, self._call.message.body)
        if self.kept.reason and not original.usage:
            return _DONE
        following = self._next(original, node, cut_at)
        self._leg_began_at = self._clock()
        self._tally.continued(self._leg_began_at - cut_at, self._tokens)
        return following

    def _next(self, original: Original, node: str, cut_at: float) -> Presented | bytes:
        wish = self._call.wish
        self._call = replace(
            self._call,
            wish=replace(wish, tried=wish.tried | {node}),
            deadline=cut_at + self._wait_seconds,
        )
        text = self.kept.text()

        def take(grant: Grant) -> Presented | bytes:
            return self._take(grant, original, text)

        return self._failover.attempt(self._call, self._attention, self._trail, take)

    def _take(self, grant: Grant, original: Original, text: str) -> Presented | bytes:
        """Prove and send on one node; its slot is given back unless it streams."""
        outcome = Outcome.REFUSED
        following: Presented | bytes = b""
        try:
            following = self._leg(grant, original, text)
            outcome = Outcome.END
        except StoppedError as error:
            outcome = error.outcome
            raise
        finally:
            if isinstance(following, bytes):
                grant.lease.done(outcome)
        return following

    def _leg(self, grant: Grant, original: Original, text: str) -> Presented | bytes:
        def ask(path: str, body: Body) -> Mapping[str, Any]:
            return self._ask(grant, path, body)

        seam = prove(original, text, self.kept.pieces, ask)
        self._tokens = seam.sent
        shape = Shape(original, self.kept.first)
        spent = Spent(self._began_at, self._generate_seconds)
        if self.kept.reason or seam.left == 0:
            return self._end(seam, shape, spent)
        message = self._message(seam.path, seam.body)
        presented = self._failover.take(grant, message, self._attention)
        gate = presented.reply.gate
        if gate is None:
            self._failover.release(presented.reply)
            raise CannotContinueError(f"the node refused: {message_in(presented.body)}")
        leg = Leg(seam, shape, self.kept, spent, self._clock)
        presented.reply.gate = seam_gate = SeamGate(gate, leg)
        return replace(presented, body=seam_gate.translate(presented.body))

    def _end(self, seam: Seam, shape: Shape, spent: Spent) -> bytes:
        """Finish here: to a node, no tokens left would mean no limit."""
        totals = totals_of(seam, Timings(), spent, self._clock())
        if self.kept.reason:
            return shape.after_reason(totals)
        totals = replace(totals, context=seam.context)
        return shape.last(totals, "length", shape.created_at)

    def _ask(self, grant: Grant, path: str, body: Body) -> Mapping[str, Any]:
        message = self._message(path, body)
        status, reply = self._failover.fetch(grant.node, message, self._attention)
        if status != 200:
            raise CannotContinueError(f"{path}: {status}: {message_in(reply)}")
        try:
            fields = orjson.loads(reply)
        except orjson.JSONDecodeError as error:
            raise CannotContinueError(f"{path}: not JSON") from error
        if not isinstance(fields, dict):
            raise CannotContinueError(f"{path}: not a JSON object")
        return fields

    def _message(self, path: str, body: Body) -> Message:
        headers = dict(self._call.message.headers)
        headers["Content-Type"] = "application/json"
        return Message("POST", path, headers, orjson.dumps(body))
