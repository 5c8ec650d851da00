"""Partial answers of items: the next attempt continues what the last one had.

An item that may be preempted is sent as a stream, if its stream could be continued. The
text is kept in memory only: after a crash the item starts again. A partial answer is
never a result.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from router.errors import (
    CannotContinueError,
    EvictedError,
    MaybeSentError,
    RunnerDiedError,
)
from router.failover.attempts import FirstResponse
from router.failover.continuation.request import refusal
from router.failover.continuation.resumption import Resumption
from router.failover.continuation.segment import Elapsed
from router.failover.continuation.transcript import Transcript
from router.failover.dead_runner import DIED
from router.failover.verdict import cause_of_words
from router.jobs.execution.assemble import AnswerAssembler
from router.jobs.planning.protocols import Watching
from router.logs.events import get_logger
from router.model import Cause, Outcome, Timings
from router.relay.framing import Framer
from router.relay.http1 import ProtocolError
from router.relay.pool import UpstreamRequest
from router.relay.upstream import UpstreamReply
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.queue import Assignment

_MOST_BYTES = 32 * 1024 * 1024
_EACH_BYTES = 16_384  # of a partial answer beside its text: first and last lines

log = get_logger("jobs")


class PartialAnswer:
    """One partial answer.

    digest: of the model that wrote it; None if unknown
    """

    def __init__(self, path: str, digest: str | None) -> None:
        self.kept = Transcript(path)
        self.whole = AnswerAssembler(path)
        self.digest = digest
        self._seconds = self._generate_seconds = 0.0

    @property
    def tokens(self) -> int:
        """Return the tokens so far, at least: one for each line."""
        with contextlib.suppress(ProtocolError):
            self.whole.settle()
        return self.whole.tokens

    @property
    def size(self) -> int:
        return 2 * self.kept.size + _EACH_BYTES

    def add(self, block: bytes) -> None:
        """Add lines of the first segment. Raises ProtocolError."""
        self.kept.add(block)
        self.whole.add(block)

    def worth_keeping(self) -> bool:
        """Say whether it has a text that can be continued."""
        try:
            self.whole.settle()
        except ProtocolError:
            return False
        return self.kept.settle() is None and self.kept.pieces > 0

    def spent(self, now: float) -> Elapsed:
        """Return the time of its segments, without the pauses between them."""
        return Elapsed(now - self._seconds, self._generate_seconds)

    def leg_ended(self, seconds: float, generate_seconds: float) -> None:
        self._seconds += seconds
        self._generate_seconds += generate_seconds


class PartialAnswers:
    """Partial answers of waiting items; beyond a limit the oldest are dropped."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._drafts: OrderedDict[int, PartialAnswer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._drafts)

    def put(self, item: int, draft: PartialAnswer) -> int:
        """Keep the longer of two; return the tokens of what was dropped."""
        other = self.take(item)
        lost = 0
        if other is not None:
            lost = min(other.tokens, draft.tokens)
            draft = max(other, draft, key=lambda each: each.tokens)
        self._drafts[item] = draft
        self._bytes += draft.size
        while self._bytes > self._most_bytes:
            lost += self.drop(next(iter(self._drafts)))
        return lost

    def take(self, item: int) -> PartialAnswer | None:
        draft = self._drafts.pop(item, None)
        if draft is not None:
            self._bytes -= draft.size
        return draft

    def tokens(self, item: int) -> int:
        """Return the tokens that are kept of an item."""
        draft = self._drafts.get(item)
        return draft.tokens if draft else 0

    def drop(self, item: int) -> int:
        """Drop a partial answer; return its tokens."""
        draft = self.take(item)
        return draft.tokens if draft else 0


@dataclass(frozen=True, slots=True)
class CompleteReply:
    """A complete reply; `timings`: of its last segment, if it was a stream."""

    status: int
    body: bytes
    timings: Timings | None = None


class Exchange:
    """One attempt's exchange with its node, on a slot that is held.

    draft:     the partial answer; None if it is not kept
    continued: tokens of text that were sent to the node again; None if none were
    lost:      tokens of a partial answer that could not be continued
    """

    def __init__(
        self,
        asking: Watching,
        assignment: Assignment,
        cancellation: Cancellation,
        clock: Callable[[], float],
    ) -> None:
        self.draft: PartialAnswer | None = None
        self.continued: int | None = None
        self.lost = 0
        self._asking = asking
        self._assignment = assignment
        self._cancellation = cancellation
        self._clock = clock

    def whole(self, message: UpstreamRequest) -> CompleteReply:
        """Request a reply without streaming. Raises AttemptError, CancelledError."""
        first = self._asking.take(self._assignment, message, self._cancellation)
        return self._piece(first)

    def _piece(self, first: FirstResponse) -> CompleteReply:
        self._asking.release(first.reply)
        head = first.reply.head
        return CompleteReply(head.status if head else 0, first.body)

    def streamed(
        self, message: UpstreamRequest, model: str, draft: PartialAnswer | None
    ) -> CompleteReply:
        """Continue a partial answer, or begin one; `message` asks for a stream.

        Raises AttemptError, CancelledError, ProtocolError.
        """
        digest = _digest(self._assignment, model)
        if draft is not None:
            self.draft = draft
            try:
                return self._go_on(message, draft, digest)
            except CannotContinueError as error:
                log.info("item_not_continued", why=str(error))
                self.lost += draft.tokens
        self.draft = draft = PartialAnswer(message.path, digest)
        first = self._asking.take(self._assignment, message, self._cancellation)
        return self._gather(first, draft, draft.add)

    def _go_on(
        self, message: UpstreamRequest, draft: PartialAnswer, digest: str | None
    ) -> CompleteReply:
        if digest is None or digest != draft.digest:
            raise CannotContinueError("the node has another model")
        resumption = Resumption(
            self._asking, message, draft.kept, self._cancellation, self._clock
        )
        following = resumption.segment(self._assignment, draft.spent(self._clock()))
        if resumption.splice:
            self.continued = resumption.splice.sent
        if isinstance(following, bytes):
            draft.whole.add(following)
            return CompleteReply(200, draft.whole.reply(), Timings())
        return self._gather(following, draft, draft.whole.add, resumption)

    def _gather(
        self,
        first: FirstResponse,
        draft: PartialAnswer,
        add: Callable[[bytes], None],
        resumption: Resumption | None = None,
    ) -> CompleteReply:
        reply, lease = first.reply, first.lease
        gate = reply.gate
        if gate is None:  # refused, or by a node that makes no streams
            return self._piece(first)
        began = lease.decoding_since = self._clock()
        stopped = None
        try:
            add(first.body)
            self._read(reply, gate, add)
            self._check(reply, gate)
            if resumption:
                add(resumption.closing())
        except CancelledError as error:
            stopped = error.outcome
            raise
        finally:
            now = self._clock()
            draft.leg_ended(now - lease.taken_at, now - began)
            self._asking.release(reply)  # closing it is what frees the slot
            if stopped:
                lease.done(stopped)
        timings = gate.timings()
        if resumption:  # most of its prompt was in the node's cache already
            timings = Timings(
                generated_tokens=timings.generated_tokens,
                generate_seconds=timings.generate_seconds,
                done_reason=timings.done_reason,
            )
        return CompleteReply(200, draft.whole.reply(), timings)

    def _read(
        self, reply: UpstreamReply, gate: Framer, add: Callable[[bytes], None]
    ) -> None:
        reply.deliver_to(Sink(add))
        add(reply.take())
        watch = self._asking.watch(self._assignment.lease, self._cancellation)
        mark, moved_at = reply.mark, self._clock()
        while not reply.over:
            if self._cancellation.stopped and gate.finished:
                break  # just in time: there is nothing to go on with
            self._cancellation.check()
            now = self._clock()
            if reply.mark != mark:
                mark, moved_at = reply.mark, now
            elif watch.lost(now - moved_at):
                silent = (
                    f"{self._assignment.node.name}: silent for {now - moved_at:.0f} s"
                )
                raise MaybeSentError(silent, Cause.STALLED)
            self._cancellation.sleep(watch.step_seconds)
        add(reply.last)

    def _check(self, reply: UpstreamReply, gate: Framer) -> None:
        outcome = reply.outcome()
        node = self._assignment.node.name
        if outcome is Outcome.EVICTED:
            raise EvictedError(f"{node}: the node is being emptied")
        if reply.runner_died:
            why = f"{node}: {DIED}"
            raise RunnerDiedError(why, Cause.RUNNER_DIED, status=500, body=b"")
        if outcome is not Outcome.END:
            self._asking.broke_off(self._assignment.lease, reply)
        # Only the end of the framing may be missing.
        if outcome is not Outcome.END and (gate.failure or not gate.finished):
            why = (
                gate.failure or reply.broken or "the stream ended before its last line"
            )
            cause = cause_of_words(why) or Cause.BROKE_OFF
            raise MaybeSentError(f"{node}: {why}", cause)


class Sink:
    """A `router.relay.upstream.LineSink` that passes lines to a function."""

    def __init__(self, add: Callable[[bytes], None]) -> None:
        self.send = add


def streamed(message: UpstreamRequest) -> UpstreamRequest | None:
    """Return the request as a stream; None if its text must not be continued."""
    if refusal(message.path, message.body):
        return None
    fields = orjson.loads(message.body)
    fields["stream"] = True
    if message.path.startswith("/v1/"):
        fields["stream_options"] = {"include_usage": True}
    return message._replace(body=orjson.dumps(fields))


def _digest(assignment: Assignment, model: str) -> str | None:
    picked = assignment.decision.picked
    found = (picked.view.present or {}).get(model) if picked else None
    return found.digest if found else None
