"""Tells silence from death: whether a node that says nothing is still at work.

A tool call, a thought, a grammar, a reply in one piece and a long prompt beside it are
silent for minutes. So a silent node is asked on a connection of its own, and what it
sends to others counts too. A request leaves a silent node only where another may do
better. Only a stream of plain text must speak, at the pace of its node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import gevent
from gevent.event import AsyncResult

from router.capacity.ledger import Lease, Ledger
from router.failover.continuation.silence import longest_silence
from router.failover.eviction import Targets
from router.model import Outcome, Timings
from router.relay.upstream import UpstreamReply
from router.runtime.cancellation import Cancellation

__all__ = [
    "Inquiry",
    "Liveness",
    "NodeSilence",
    "SilenceLimits",
    "Unanswered",
    "Watch",
    "is_lost",
]

# A prompt that is read beside a stream may hold it up for so many of its own limits.
_BESIDE = 4
# A reply in one piece, or a tool call, has hardly more: a node that is at work has said
# them by then, though it serves nobody else. (Ollama 0.17 may lose a slot when a client
# leaves: it answers every question, and generates nothing.)
_LONGEST_REPLY_TOKENS = 20_000
_STEPS = 4  # looks at a request in the time of its limit
_LONGEST_STEP_SECONDS = 30.0


class SilenceLimits(NamedTuple):
    """first_byte_seconds: before a reply; stall_seconds: within one, either way."""

    first_byte_seconds: float
    stall_seconds: float


@dataclass(frozen=True, slots=True)
class NodeSilence:
    """What is known of a node that has said nothing to a request.

    answers:      whether it answered when it was asked meanwhile
    others_move:  whether it said something to another request meanwhile
    words_due:    whether the request is a stream of plain text that had begun
    read_beside:  whether it was sent another prompt since the silence began
    stuck_before: whether a stream of plain text of the same model was given up there
                  since the silence began
    """

    seconds: float
    answers: bool
    others_move: bool = False
    words_due: bool = False
    read_beside: bool = False
    stuck_before: bool = False


def is_lost(silence: NodeSilence, limit_seconds: float, excused_seconds: float) -> bool:
    """Say whether a silence over its limit means death; pure.

    A sign of life excuses it up to `excused_seconds`: plain text only beside a prompt
    that is being read, and anything else for longer where the node serves others.
    """
    if silence.seconds < limit_seconds:
        return False
    answers = silence.answers and not silence.stuck_before
    if not (answers or silence.others_move):
        return True
    if silence.words_due:
        return not silence.read_beside or silence.seconds >= excused_seconds
    return not silence.others_move and silence.seconds >= excused_seconds


class Inquiry:
    """Asks nodes whether they are there; one question at a time to each."""

    def __init__(
        self,
        ask: Callable[[str], bool],
        *,
        spawn: Callable[..., object] = gevent.spawn,
    ) -> None:
        self._ask = ask
        self._spawn = spawn
        self._open: dict[str, AsyncResult[bool]] = {}

    def answers(self, node: str) -> bool:
        """Wait for the answer to a question that is open, or ask."""
        asked = self._open.get(node)
        if asked is None:
            self._open[node] = asked = AsyncResult()
            self._spawn(self._put, node, asked)
        return bool(asked.get())

    def _put(self, node: str, asked: AsyncResult[bool]) -> None:
        answered = False
        try:
            answered = self._ask(node)
        finally:
            del self._open[node]
            asked.set(answered)


Marks = Mapping[Lease, object]


class Liveness:
    """Watches over replies under way; one for the process."""

    def __init__(
        self,
        inquiry: Inquiry,
        ledger: Ledger,
        elsewhere: Targets,
        limits: SilenceLimits,
        *,
        clock: Callable[[], float],
        spawn: Callable[..., object] = gevent.spawn,
    ) -> None:
        self.inquiry = inquiry
        self.elsewhere = elsewhere
        self.limits = limits
        self.clock = clock
        self.spawn = spawn
        self._ledger = ledger
        self._stuck: dict[tuple[str, str], float] = {}
        self._served: dict[tuple[str, str], float] = {}
        ledger.listen(self._ended)

    def stream(self, lease: Lease, cancellation: Cancellation, *, plain: bool) -> Watch:
        """Watch over a stream that has begun; `plain` ones say each token as it is."""
        stall = self.limits.stall_seconds
        speed = self._ledger.speed(lease.node, lease.model)
        if plain:
            limit = longest_silence(speed, stall)
            excused = max(stall, _BESIDE * limit)
        else:
            limit, excused = stall, _longest_reply(speed, stall)
        watch = Watch(self, lease, cancellation, limit, excused, words_due=plain)
        watch.client_seconds = stall
        return watch

    def wait(
        self,
        lease: Lease,
        reply: UpstreamReply,
        cancellation: Cancellation,
        within_seconds: float | None = None,
    ) -> str | None:
        """Sleep until a reply can be judged, or say why not to wait for it any more.

        Raises StoppedError.
        """
        lease.reply = reply  # what an eviction cuts
        limits, clock, watch = self.limits, self.clock, None
        until = inf if within_seconds is None else clock() + within_seconds
        shortest = min(limits.first_byte_seconds, limits.stall_seconds)
        step = min(shortest / _STEPS, _LONGEST_STEP_SECONDS)
        while not cancellation.until(
            lambda: reply.presentable, min(until, clock() + step), clock
        ):
            speed = self._ledger.speed(lease.node, lease.model)
            watch = watch or Unanswered(self, lease, cancellation, speed)
            if watch.lost(reply) or clock() >= until:
                did = "took no more of the request" if reply.sending else "said nothing"
                return f"{did} for {clock() - reply.moved_at:.0f} s"
        return None

    # What a watch asks.

    def marks(self, node: str) -> Marks:
        """Take what shows later to whom the node said something."""
        leases = self._ledger.leases(node)
        return {each: each.reply.mark for each in leases if each.reply}

    def moved(self, node: str, before: Marks) -> list[Lease]:
        """Return the requests to which the node has said something since."""
        now = self.marks(node)
        return [each for each in before.keys() & now if before[each] != now[each]]

    def served_since(self, node: str, since: float) -> frozenset[str]:
        """Return the models of which the node has ended a reply well since."""
        return frozenset(
            m for (n, m), at in self._served.items() if n == node and at >= since
        )

    def moves(self, node: str) -> Callable[[], bool]:
        """Begin to watch a node; returns what says whether it said anything since."""
        before, since = self.marks(node), self.clock()
        return lambda: bool(self.moved(node, before) or self.served_since(node, since))

    def read_beside(self, lease: Lease, since: float) -> bool:
        """Say whether the node was sent another prompt since, unanswered so far."""
        return any(
            each is not lease
            and each.taken_at >= since
            and not (each.reply and each.reply.answered)
            for each in self._ledger.leases(lease.node)
        )

    def stuck(self, lease: Lease) -> None:
        """Remember that plain text stood still on a node that answers."""
        self._stuck[lease.node, lease.model] = self.clock()

    def stuck_since(self, lease: Lease, since: float) -> bool:
        return self._stuck.get((lease.node, lease.model), -inf) >= since

    def _ended(self, lease: Lease, outcome: Outcome, _timings: Timings | None) -> None:
        if outcome is Outcome.END:
            self._served[lease.node, lease.model] = self.clock()


def _longest_reply(tokens_per_second: float | None, least_seconds: float) -> float:
    """Return how long a node that is at work may be silent in one piece."""
    if not tokens_per_second:
        return inf
    return max(least_seconds, _LONGEST_REPLY_TOKENS / tokens_per_second)


class Watch:
    """Watches over the silence of one request; a `router.relay.upstream.Patience`."""

    def __init__(
        self,
        liveness: Liveness,
        lease: Lease,
        cancellation: Cancellation,
        limit_seconds: float,
        excused_seconds: float,
        *,
        words_due: bool,
        begun: bool = True,
    ) -> None:
        self._liveness = liveness
        self._lease = lease
        self._cancellation = cancellation
        self._limit = limit_seconds
        self._excused = excused_seconds
        self._words_due = words_due
        self._continued = begun and words_due
        self._question: _Question | None = None
        self.client_seconds = limit_seconds
        self.step_seconds = min(limit_seconds / _STEPS, _LONGEST_STEP_SECONDS)

    def lost(self, silent_seconds: float) -> bool:
        """Say whether to give the node up; asks from half of the limit on."""
        if silent_seconds < self._limit / 2:
            return False
        now = self._liveness.clock()
        question, began = self._question, now - silent_seconds
        # What an older question came to says little of now.
        fresh_at = max(began, now - self._limit / 2 - self.step_seconds)
        if question is None or (question.heard_at < fresh_at and not question.open):
            self._question = _Question(self._liveness, self._lease, self._cancellation)
            return False
        if question.open or silent_seconds < self._limit:
            return False
        return self._judge(question, silent_seconds, began)

    def _judge(self, question: _Question, silent_seconds: float, began: float) -> bool:
        lease, liveness = self._lease, self._liveness
        models = {each.model for each in question.moved()}
        models |= liveness.served_since(lease.node, question.at)
        silence = NodeSilence(
            silent_seconds,
            question.answers,
            others_move=bool(models),
            words_due=self._words_due,
            read_beside=liveness.read_beside(lease, began - self._limit),
            stuck_before=liveness.stuck_since(lease, began),
        )
        lost = is_lost(silence, self._limit, self._excused) and question.elsewhere
        if lost and self._continued and question.answers and lease.model not in models:
            liveness.stuck(lease)
        return lost


class Unanswered:
    """Watches over a request that has no answer yet: while it goes out, and then."""

    def __init__(
        self,
        liveness: Liveness,
        lease: Lease,
        cancellation: Cancellation,
        speed: float | None,
    ) -> None:
        limits = liveness.limits
        stall, first = limits.stall_seconds, limits.first_byte_seconds
        self._clock = liveness.clock
        self._taking = Watch(
            liveness, lease, cancellation, stall, stall, words_due=True, begun=False
        )
        longest = _longest_reply(speed, first)
        self._answering = Watch(
            liveness, lease, cancellation, first, longest, words_due=False
        )

    def lost(self, reply: UpstreamReply) -> bool:
        """Say whether to send it elsewhere: not while anything moves."""
        watch = self._taking if reply.sending else self._answering
        return watch.lost(self._clock() - reply.moved_at)


class _Question:
    """What was asked about one silence, beside the request that it is about.

    heard_at: when its answer came, or the time for one was over
    """

    def __init__(
        self, liveness: Liveness, lease: Lease, cancellation: Cancellation
    ) -> None:
        self.at = self.heard_at = liveness.clock()
        self.open = True
        self.answers = False
        self.elsewhere = False
        self.marks = liveness.marks(lease.node)
        self._liveness = liveness
        self._lease = lease
        self._cancellation = cancellation
        liveness.spawn(self._ask)

    def moved(self) -> list[Lease]:
        """Return the other requests to which the node said something since."""
        moved = self._liveness.moved(self._lease.node, self.marks)
        return [each for each in moved if each is not self._lease]

    def _ask(self) -> None:
        liveness, lease = self._liveness, self._lease
        try:
            self.answers = liveness.inquiry.answers(lease.node)
            # Of streams too: an answer in other words is better than none.
            self.elsewhere = liveness.elsewhere.take(lease, answered=False)
        finally:
            self.open, self.heard_at = False, liveness.clock()
            self._cancellation.wake()
