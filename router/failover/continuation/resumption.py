"""Goes on with an answer on a node of which a slot is held."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import orjson

from router.errors import AttemptError, CannotContinueError
from router.failover.attempts import FirstResponse
from router.failover.continuation.proof import AnswerSoFar, Question, Splice, prove
from router.failover.continuation.request import parse_request
from router.failover.continuation.segment import (
    Elapsed,
    Segment,
    SegmentFramer,
    totals_of,
)
from router.failover.continuation.shape import StreamShape
from router.failover.continuation.transcript import Transcript
from router.failover.continuation.ways import (
    Body,
    counting,
    first_request,
    resampled,
)
from router.model import Timings
from router.relay.framing import message_in, read_timings_of
from router.relay.pool import UpstreamRequest
from router.relay.upstream import UpstreamReply
from router.runtime.cancellation import Cancellation, CancelledError
from router.scheduling.queue import Assignment

# How often a node is asked to say a text's last piece again. Greedy decoding says it
# at once; where tokens are drawn, an unlikely one takes some tries of a token each.
_MOST_REPEATS = 16


# The whole text is there, only the prompt's count is missing: it can be told nearly.
_COUNT_SECONDS = 5.0


class NodeClient(Protocol):
    """Asks nodes on slots that are held (`router.failover.attempts.Failover`)."""

    def take(
        self,
        assignment: Assignment,
        message: UpstreamRequest,
        cancellation: Cancellation,
    ) -> FirstResponse: ...

    def fetch(
        self,
        assignment: Assignment,
        messages: Sequence[UpstreamRequest],
        cancellation: Cancellation,
        *,
        within_seconds: float | None = None,
    ) -> list[tuple[int, bytes]]: ...

    def release(self, reply: UpstreamReply) -> None: ...


class Resumption:
    """From what is kept of an answer to its next segment.

    message: the request as its first segment was asked, a stream
    splice:    what was proven last; None before
    """

    def __init__(
        self,
        asking: NodeClient,
        message: UpstreamRequest,
        transcript: Transcript,
        cancellation: Cancellation,
        clock: Callable[[], float],
    ) -> None:
        self.message = message
        self.transcript = transcript
        self.splice: Splice | None = None
        self.original = parse_request(message.path, message.body)
        self._asking = asking
        self._cancellation = cancellation
        self._clock = clock
        self._segment: Segment | None = None
        self._assignment: Assignment | None = None

    def segment(
        self, assignment: Assignment, elapsed: Elapsed
    ) -> FirstResponse | bytes:
        """Prove and send; returns the segment, or the end where only that is missing.

        The slot is given back only where the segment was sent and failed.
        Raises CannotContinueError, AttemptError, StoppedError.
        """
        self._assignment = assignment
        # An answer that was said to be over is whole, however it ends.
        ended = bool(self.transcript.reason)
        last = "" if ended else self.transcript.last()
        said = AnswerSoFar(self.transcript.text(), last, self.transcript.pieces, ended)
        self.splice = splice = prove(self.original, said, self._ask, self._ask_together)
        shape = StreamShape(self.original, self.transcript.first)
        if ended or splice.left == 0:
            return self._end(splice, shape, elapsed)
        for time in range(_MOST_REPEATS):
            self._segment = segment = Segment(
                splice, shape, self.transcript, elapsed, self._clock
            )
            message = self._message(splice.path, resampled(splice.body, time))
            response = self._begun(assignment, message, segment)
            if not segment.strayed:
                return response
            self._asking.release(response.reply)
        raise CannotContinueError(
            "a stop string may have ended the text, and its last piece did not come"
            f" again in {_MOST_REPEATS} tries"
        )

    @property
    def unfinished(self) -> bool:
        """Whether a segment that ended well lacks its last line: its counters."""
        return self._segment is not None and self._segment.ending is not None

    def closing(self) -> bytes:
        """Return that line, after asking the node how many tokens the prompt has.

        The segment's slot must be held still.
        """
        segment = self._segment
        if segment is None or segment.ending is None:
            return b""
        path, body = first_request(self.original)
        question = path, counting(body)
        try:
            (counted,) = self._ask_together([question], within_seconds=_COUNT_SECONDS)
        except (AttemptError, CannotContinueError, CancelledError):
            return segment.close(None)
        return segment.close(read_timings_of(counted).prompt_tokens or None)

    def _begun(
        self, assignment: Assignment, message: UpstreamRequest, segment: Segment
    ) -> FirstResponse:
        """Send, and translate what comes first."""
        response = self._asking.take(assignment, message, self._cancellation)
        gate = response.reply.gate
        if gate is None:
            self._asking.release(response.reply)
            raise CannotContinueError(f"the node refused: {message_in(response.body)}")
        response.reply.gate = framer = SegmentFramer(gate, segment)
        return response._replace(body=framer.translate(response.body))

    def _end(self, splice: Splice, shape: StreamShape, elapsed: Elapsed) -> bytes:
        """Finish here: to a node, no tokens left would mean no limit."""
        totals = totals_of(splice, Timings(), elapsed, self._clock())
        if self.transcript.reason:
            return shape.after_reason(totals)
        totals = replace(totals, context=splice.context)
        return shape.last(totals, "length", shape.created_at)

    def _ask(self, path: str, body: Body) -> Mapping[str, Any]:
        (answer,) = self._ask_together([(path, body)])
        return answer

    def _ask_together(
        self, questions: Sequence[Question], *, within_seconds: float | None = None
    ) -> list[Mapping[str, Any]]:
        assert self._assignment is not None  # noqa: S101 - asked while it is held
        fetched = self._asking.fetch(
            self._assignment,
            [self._message(path, body) for path, body in questions],
            self._cancellation,
            within_seconds=within_seconds,
        )
        return [
            _fields(path, status, reply)
            for (path, _), (status, reply) in zip(questions, fetched, strict=True)
        ]

    def _message(self, path: str, body: Body) -> UpstreamRequest:
        headers = dict(self.message.headers)
        headers["Content-Type"] = "application/json"
        return UpstreamRequest("POST", path, headers, orjson.dumps(body))


def _fields(path: str, status: int, reply: bytes) -> Mapping[str, Any]:
    if status != 200:
        raise CannotContinueError(f"{path}: {status}: {message_in(reply)}")
    try:
        fields = orjson.loads(reply)
    except orjson.JSONDecodeError as error:
        raise CannotContinueError(f"{path}: not JSON") from error
    if not isinstance(fields, dict):
        raise CannotContinueError(f"{path}: not a JSON object")
    return fields
