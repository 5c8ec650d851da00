"""When a request would be complete on a node, and what it costs those beside it; pure.

    first token = wait + load + prompts being read + prompt x seconds per prompt token
    completion  = first token + answer x seconds per token among k + 1 streams

A decision compares costs, in squared seconds, since a long wait is worse than two of
half its length, and since the tail of answers' lengths weighs more on a slow node:

    cost = E[completion^2] + 8 first token^2
           + 1.5 x 2 x sum over those beside it of (their age at the end x their delay)

The last line is the derivative of the first for them. See docs/scheduling.md.
"""

from __future__ import annotations

from typing import NamedTuple

from router.scheduling.request import Work
from router.snapshot import NodeView

# A second until the first token weighs as much as three of the answer (8 + 1 squared
# is 9): a reader waits for the one and reads along with the other.
_FIRST_TOKEN = 1 + 8.0
# Who comes later is delayed by what is sent now as well, beside those that run.
_BESIDE = 2 * 1.5
# Of a stream's length: its age at its end, where it runs when a full node's slot frees
# up for a request that waits now.
AGE_OF_FULL = 1.5


class Others(NamedTuple):
    """What is known of the model's other requests.

    typical: tokens of an answer
    lost:    by those of late for want of a copy, in squared seconds
    """

    typical: float
    lost: float = 0.0


class Expected(NamedTuple):
    """What a request's time on a node consists of, as expected; seconds.

    behind: until prompts that are there already, or a load, are done
    saved:  of the prompt's reading, since the node is expected to have read it before
    """

    behind: float
    load: float
    prefill: float
    decode: float
    saved: float = 0.0

    @property
    def first_token(self) -> float:
        return self.behind + self.load + self.prefill

    @property
    def completion(self) -> float:
        return self.first_token + self.decode


class Offer(NamedTuple):  # made for each change of a node: a tuple is quick
    """One node for one model, until something changes there; seconds.

    streams:    that would run beside the request
    load:       to load the model, once `ready_at` has come
    ready_at:   when the model is loaded, or the node is done with another load
    slowed:     more for each token of those beside it
    running, arrivals: requests of ours there, and the sum of the times at which they
                came
    lengths:    what is left of those beside it, in answers of the usual length
    read_until: when the prompts that are there already will have been read
    measured:   whether the speed is known from replies, not guessed by the score
    ends:       slots that free up in a second, where all are taken
    price:      what those lose whose model goes for this one, in squared seconds
    victims:    those models
    short_only: whether it is weighed as quicker than it is, for a short answer that
                shows whether it has recovered
    """

    view: NodeView
    streams: int
    load: float
    ready_at: float
    per_prompt_token: float
    per_token: float
    slowed: float
    running: int
    arrivals: float
    lengths: float
    read_until: float
    measured: bool
    ends: float = 0.0
    price: float = 0.0
    victims: tuple[str, ...] = ()
    short_only: bool = False

    @property
    def cold(self) -> bool:
        """Whether the request would have to load its model."""
        return self.load > 0

    def first_token(self, work: Work, now: float) -> float:
        """Return seconds until the first token, were the slot taken now."""
        return self.expected(work, now).first_token

    def completion(self, work: Work, now: float) -> float:
        return self.expected(work, now).completion

    def expected(self, work: Work, now: float) -> Expected:
        """Return what the time on this node consists of, were the slot taken now."""
        return Expected(
            max(self.read_until, self.ready_at, now) - now,
            self.load,
            work.unread * self.per_prompt_token,
            work.tokens * self.per_token,
            work.saved * self.per_prompt_token,
        )

    def cost(self, work: Work, waited: float, typical: float, now: float) -> float:
        """Return the cost in squared seconds.

        waited:  seconds since the request came, and those until it has the slot
        typical: tokens of an answer of those beside it
        """
        wait = self.load
        busy = self.read_until
        if self.ready_at > busy:  # noqa: PLR1730 - a call to max costs more
            busy = self.ready_at
        if busy > now:
            wait += busy - now
        return self._cost(work, waited, typical, now, wait)

    def _cost(
        self, work: Work, waited: float, typical: float, now: float, wait: float
    ) -> float:
        """Return the cost where the prompt is read after so many seconds."""
        prompt, tokens, squares, saved = work
        reads = (prompt - saved) * self.per_prompt_token
        first = waited + wait + reads
        each = self.per_token
        cost = (
            _FIRST_TOKEN * first * first
            + 2 * first * each * tokens
            + each * each * squares
        )
        if self.lengths:
            ages = self.running * now - self.arrivals + self.lengths * typical * each
            delay = reads + self.slowed * min(tokens, typical)
            cost += _BESIDE * ages * delay
        return cost

    def cost_with_load(
        self, work: Work, waited: float, now: float, others: Others
    ) -> float:
        """Return the cost where the model is loaded for it, all told.

        What requests have lost already for want of this copy is taken off: the load is
        made for those who come later as well.
        """
        typical, lost = others
        whole = self.cost(work, waited, typical, now) + self.price
        reading = self.read_until - now if self.read_until > now else 0.0
        warm = self._cost(work, waited, typical, now, reading)
        return warm + max(0.0, whole - warm - lost)
