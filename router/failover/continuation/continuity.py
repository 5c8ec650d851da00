"""One client's stream over one node after the other: the shell of a continuation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from router.errors import AttemptError, CannotContinueError
from router.failover.attempts import Failover, FirstResponse
from router.failover.continuation.resumption import Resumption
from router.failover.continuation.segment import Elapsed
from router.failover.continuation.transcript import Transcript
from router.failover.proxied import ProxiedRequest
from router.model import Outcome, Priority
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.queue import Assignment
from router.scheduling.trace import DecisionTrace

_DONE = b"data: [DONE]\n\n"


class ContinuationCounters(Protocol):
    """What continuations are counted with."""

    def continued(self, pause_seconds: float, tokens: int) -> None: ...


class Continuity:
    """What one stream needs to go on; made when its first line is there.

    A continuation's first try is no retry: the slot that it takes is the one that was
    lost. Further tries come out of the retry budget. Nodes that broke this stream are
    not asked again, and there are at most as many continuations as tries: a request
    that kills every runner must not go through the whole fleet.
    """

    def __init__(
        self,
        failover: Failover,
        call: ProxiedRequest,
        cancellation: Cancellation,
        trace: DecisionTrace,
        tally: ContinuationCounters,
        *,
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.transcript = Transcript(call.message.path)
        self._failover = failover
        self._call = call
        self._cancellation = cancellation
        self._trace = trace
        self._tally = tally
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._began_at = self._leg_began_at = clock()
        self._generate_seconds = 0.0
        self._continuations = 0
        self._resumption: Resumption | None = None

    def begin(self, first: FirstResponse) -> None:
        """Keep what the first segment says."""
        self.transcript.add(first.body)
        if first.reply.gate:
            first.reply.gate.transcript = self.transcript

    def go_on(self, node: str, outcome: Outcome) -> FirstResponse | bytes:
        """Return the next segment, or the stream's end where only that is missing.

        Raises CannotContinueError, RequestError, AttemptError, StoppedError.
        """
        cut_at = self._clock()
        self._generate_seconds += cut_at - self._leg_began_at
        if self._trace.steps:
            pieces = self.transcript.pieces
            failure = f"{node}: {outcome} after {pieces} pieces of text"
            self._trace.steps[-1].failure = failure
        self._continuations += outcome is not Outcome.EVICTED  # that broke nothing
        if self._continuations > self._failover.limits.attempts:
            raise CannotContinueError(f"{self._continuations} nodes broke this stream")
        why = self.transcript.settle()
        if why:
            raise CannotContinueError(why)
        resumption = Resumption(
            self._failover,
            self._call.message,
            self.transcript,
            self._cancellation,
            self._clock,
        )
        if self.transcript.reason and not resumption.original.usage:
            return _DONE
        self._resumption = resumption
        spans = self._trace.spans
        if spans is not None:
            spans.broke(cut_at, node, outcome)
        following = self._next(resumption, node, outcome, cut_at)
        self._leg_began_at = self._clock()
        tokens = resumption.splice.sent if resumption.splice else 0
        if spans is not None:
            spans.resumed(self._leg_began_at, tokens)
        self._tally.continued(self._leg_began_at - cut_at, tokens)
        return following

    @property
    def unfinished(self) -> bool:
        """Whether a segment that ended well still lacks its last line."""
        return self._resumption is not None and self._resumption.unfinished

    def closing(self) -> bytes:
        """Return that line; the segment's slot must be held still."""
        return self._resumption.closing() if self._resumption else b""

    def _next(
        self, resumption: Resumption, node: str, outcome: Outcome, cut_at: float
    ) -> FirstResponse | bytes:
        before = self._call.routing
        broke = self._broke(node, outcome)
        self._call = replace(
            self._call,
            routing=before._replace(tried=before.tried | broke),
            priority=Priority.CONTINUED,
            deadline=cut_at + self._wait_seconds,
        )
        attempts = self._failover.attempts(self._call, self._cancellation, self._trace)
        while True:
            assignment = attempts.next()
            try:
                return self._take(resumption, assignment)
            except AttemptError as error:
                attempts.failed(error)

    def _broke(self, node: str, outcome: Outcome) -> frozenset[str]:
        """Return the node if it is not to be asked again.

        An evicted one is held, not at fault. One whose runner died loads the model
        again: sooner than a slot is free elsewhere.
        """
        if outcome is Outcome.EVICTED:
            return frozenset()
        routing = self._call.routing._replace(tried=self._call.routing.tried | {node})
        if outcome is Outcome.ERROR_LINE and not self._failover.free_elsewhere(
            routing, Priority.CONTINUED
        ):
            return frozenset()
        return frozenset({node})

    def _take(
        self, resumption: Resumption, assignment: Assignment
    ) -> FirstResponse | bytes:
        """Prove and send on one node; its slot is given back unless it streams."""
        outcome = Outcome.REFUSED
        following: FirstResponse | bytes = b""
        try:
            elapsed = Elapsed(self._began_at, self._generate_seconds)
            following = resumption.segment(assignment, elapsed)
            outcome = Outcome.END
        except CancelledError as error:
            outcome = error.outcome
            raise
        finally:
            if isinstance(following, bytes):
                assignment.lease.done(outcome)
        return following
