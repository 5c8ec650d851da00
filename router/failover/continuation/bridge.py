"""Goes on with an answer on a node of which a slot is held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from router.cancellation import Attention
from router.errors import CannotContinueError
from router.failover.attempts import Presented
from router.failover.continuation.leg import Leg, SeamGate, Spent, totals_of
from router.failover.continuation.proof import Said, Seam, prove
from router.failover.continuation.request import read_original
from router.failover.continuation.shape import Shape
from router.failover.continuation.transcript import Kept
from router.failover.continuation.ways import Body, sampled_anew
from router.model import Node, Timings
from router.relay.framing import message_in
from router.relay.pool import Message
from router.relay.upstream import Reply
from router.scheduling.queue import Grant

# How often a node is asked to say a text's last piece again. Greedy decoding says it
# at once; where tokens are drawn, an unlikely one takes some tries of a token each.
_MOST_REPEATS = 16


class Asking(Protocol):
    """Asks nodes on slots that are held (`router.failover.attempts.Failover`)."""

    def take(
        self, grant: Grant, message: Message, attention: Attention
    ) -> Presented: ...

    def fetch(
        self, node: Node, message: Message, attention: Attention
    ) -> tuple[int, bytes]: ...

    def release(self, reply: Reply) -> None: ...


class Bridge:
    """From what is kept of an answer to its next leg.

    message: the request as its first leg was asked, a stream
    seam:    what was proven last; None before
    """

    def __init__(
        self,
        asking: Asking,
        message: Message,
        kept: Kept,
        attention: Attention,
        clock: Callable[[], float],
    ) -> None:
        self.message = message
        self.kept = kept
        self.seam: Seam | None = None
        self.original = read_original(message.path, message.body)
        self._asking = asking
        self._attention = attention
        self._clock = clock

    def leg(self, grant: Grant, spent: Spent) -> Presented | bytes:
        """Prove and send; returns the leg, or the end where only that is missing.

        The slot is given back only where the leg was sent and failed.
        Raises CannotContinueError, AttemptError, StoppedError.
        """

        def ask(path: str, body: Body) -> Mapping[str, Any]:
            return self._ask(grant, path, body)

        # An answer that was said to be over is whole, however it ends.
        last = "" if self.kept.reason else self.kept.last()
        said = Said(self.kept.text(), last, self.kept.pieces)
        self.seam = seam = prove(self.original, said, ask)
        shape = Shape(self.original, self.kept.first)
        if self.kept.reason or seam.left == 0:
            return self._end(seam, shape, spent)
        for time in range(_MOST_REPEATS):
            leg = Leg(seam, shape, self.kept, spent, self._clock)
            message = self._message(seam.path, sampled_anew(seam.body, time))
            presented = self._begun(grant, message, leg)
            if not leg.strayed:
                return presented
            self._asking.release(presented.reply)
        raise CannotContinueError(
            "a stop string may have ended the text, and its last piece did not come"
            f" again in {_MOST_REPEATS} tries"
        )

    def _begun(self, grant: Grant, message: Message, leg: Leg) -> Presented:
        """Send, and translate what comes first."""
        presented = self._asking.take(grant, message, self._attention)
        gate = presented.reply.gate
        if gate is None:
            self._asking.release(presented.reply)
            raise CannotContinueError(f"the node refused: {message_in(presented.body)}")
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
        status, reply = self._asking.fetch(grant.node, message, self._attention)
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
        headers = dict(self.message.headers)
        headers["Content-Type"] = "application/json"
        return Message("POST", path, headers, orjson.dumps(body))
