"""Chooses the waiting item for a free slot, if any; pure.

Each free slot gets one item at a time, the heaviest first. A node that would finish an
item later than the other nodes finish all gets none. When no item waits, an idle node
may run a copy of the item that takes longest elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nlargest
from math import inf

from router.jobs.model import Choice, FreeSlot, Pending, Running, StartCopy, StartItem
from router.jobs.planning.estimates import JobEstimates
from router.jobs.planning.in_flight import LateAttempt, LatestEnds
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.view import PlanningContext, cached, half_full, waits

# A copy must end well before what it copies: both are estimates.
WORTH_A_COPY = 0.8
# A model gets another node when it would end this much later than the one there.
_UNFAIR = 2.0
_WORTH_LOADS = 4.0
_TURN_LOADS = 20.0  # but a node stays with one so long: 5 % are spent on loading
_SOON = 2.0  # items' lengths before the queue is empty: then the end is in sight
_MOST_IN_VAIN = 8
# Of what is in flight: those that may be copied, and how long a list is good.
_MOST_LOOKED_AT_LATE = 64
_CROWD = 64
_SECONDS_EACH = 5e-4
# A node where people were a moment ago will have them again soon: a prompt is short
# there if it is read in this part of the time that they have been away (3 to 30 do).
_PROMPTS_QUIET = 10.0
_MOST_LOOKED_AT = 16  # items of different weight, for one that a slow node can end


class PullPolicy:
    """Chooses one item for a free slot, or none."""

    def __init__(self, lengths: LengthPredictor) -> None:
        self._lengths = lengths
        self._times = JobEstimates(lengths)

    def choose(self, free: FreeSlot, context: PlanningContext) -> Choice | None:
        """Return what to start on the slot; None leaves it idle for now."""
        context = cached(context)
        wanted = [m for m in free.models if waits(context, m)]
        if not wanted:
            return self._copy(free, context, 0.0)
        model = self._model(free, wanted, context)
        if model is None or not _worthwhile(free, model, context):
            return None
        left = self._seconds_left(model, context)
        return (
            self._sooner(free, context)
            or self._late(free, model, left, context)
            or self._take(free, model, left, context)
        )

    def assign(
        self, frees: Sequence[FreeSlot], context: PlanningContext
    ) -> tuple[FreeSlot, Choice] | None:
        """Return the first good use of any of the slots, fast nodes first.

        frees: one slot for each node; call again after the choice was started
        """
        context = cached(context)
        in_vain = 0
        for free in sorted(frees, key=lambda each: self._times.pace(each, context)):
            choice = self.choose(free, context)
            if choice is not None:
                return free, choice
            if not any(waits(context, model) for model in free.models):
                in_vain += 1  # slower ones will not gain by a copy either
                if in_vain == _MOST_IN_VAIN:
                    return None
        return None

    # Which model

    def _model(
        self, free: FreeSlot, wanted: list[str], context: PlanningContext
    ) -> str | None:
        """Choose the model that is furthest behind, but stay where one is loaded."""
        busy = context.running.models(free.node)
        here = [m for m in wanted if m in free.resident or m in busy]
        late = {m: self._seconds_left(m, context) for m in wanted}

        def urgency(model: str) -> tuple[float, float, str]:
            nodes = len(context.running.nodes(model))
            weight = context.waiting.models()[model].weight
            return late[model], weight / (1 + nodes), model

        best = max(wanted, key=urgency)
        if best in here:
            context.running.claims.pop(free.node, None)
            return best
        occupied = bool(busy) or free.in_flight > 0
        if here:
            stay = max(here, key=urgency)
            load = context.speeds.load_seconds(free.node, best)
            behind = late[best] > _UNFAIR * late[stay] + _WORTH_LOADS * load
            turn = context.now - context.running.turn(free.node) >= _TURN_LOADS * load
            if not (behind and turn) or (
                occupied and not _claim(free.node, best, context)
            ):
                context.running.claims.pop(free.node, None)
                return stay
        return None if occupied else best

    def _seconds_left(self, model: str, context: PlanningContext) -> float:
        """Return when the last waiting item of the model will have been begun."""
        rate = context.running.rate(model, context.speeds)
        if rate <= 0:
            return inf
        return (
            context.waiting.models()[model].weight * self._lengths.scale(model) / rate
        )

    # Which item

    def _take(
        self, free: FreeSlot, model: str, left: float, context: PlanningContext
    ) -> StartItem | None:
        """Take the first that the others would not have done before this node."""
        items = self._in_order(context.waiting.heaviest(model), free, context)
        some = _of_different_weight(items, free, context)
        for item in self._opening_where_quick(some, free, context):
            if not item.opening and _kept_quick(free, model, context):
                return None
            if not self._pays(free, item, context):
                continue
            seconds = self._times.seconds(free, item, context)
            if seconds is None or seconds <= left:
                return StartItem(item.id)
            if seconds <= left + self._times.elsewhere(free.node, item, context):
                return StartItem(item.id)
        return None

    def _in_order(
        self, items: Sequence[Pending], free: FreeSlot, context: PlanningContext
    ) -> Sequence[Pending]:
        """Put first what the node has in its cache, and last what another one has.

        Where people come and go, short prompts come before long ones: of a long
        one nothing but the reading would be done when the next of them is there.
        """
        node = free.node
        reading = self._times.read_seconds(node, items[0], context) if items else 0.0
        hurried = free.quiet < _PROMPTS_QUIET * reading
        if not hurried and not any(item.home for item in items):
            return items

        def order(item: Pending) -> tuple[bool, int, float]:
            away = 2 * (item.home != node) - (not item.home)
            reading = item.prompt + item.had if hurried else 0.0
            return not item.opening, away, reading

        return sorted(items, key=order)

    def _pays(self, free: FreeSlot, item: Pending, context: PlanningContext) -> bool:
        """Say whether the node is likely to be quiet for long enough.

        While a prompt is read, what runs there stands nearly still. The time that
        the node has been without people is what it is expected to stay so.
        """
        prompt = self._times.prompt_seconds(free.node, item, context)
        if not free.in_flight or not prompt:
            return True
        speeds, k = context.speeds, free.in_flight
        each = speeds.tokens_per_second(free.node, item.model, k)
        then = speeds.tokens_per_second(free.node, item.model, k + 1)
        if each is None or then is None:
            return True
        gain = (k + 1) * then - k * each  # where there is none, others decide
        return gain <= 0 or free.quiet * gain >= prompt * (k + 1) * then

    def _opening_where_quick(
        self, items: Iterator[Pending], free: FreeSlot, context: PlanningContext
    ) -> Iterator[Pending]:
        """Put off, on a slow node, what opens a job: a quick one is free soon."""
        later = []
        for item in items:
            if item.opening:
                seconds = self._times.seconds(free, item, context)
                elsewhere = self._times.elsewhere(free.node, item, context)
                if elsewhere < (inf if seconds is None else seconds):
                    later.append(item)
                    continue
            yield item
        yield from later

    # Copies

    def _sooner(self, free: FreeSlot, context: PlanningContext) -> StartCopy | None:
        """Copy what opens a job from a node that turned out slow."""
        for attempt in context.running.opening.values():
            model = attempt.item.model
            streams = free.in_flight + 1
            if not context.speeds.tokens_per_second(free.node, model, streams):
                continue
            if _may_copy(attempt, free, context):
                left, produced = self._times.left(attempt, context)
                again = self._times.again(free, attempt.item, produced, context)
                if again is not None and again <= WORTH_A_COPY * left:
                    return StartCopy(attempt.item.id)
        return None

    def _late(
        self, free: FreeSlot, model: str, left: float, context: PlanningContext
    ) -> StartCopy | None:
        """Copy what will run longer than all that waits, once that is nearly begun."""
        speed = context.running.typical(model, context.speeds)
        items = context.waiting.heaviest(model)
        if not speed or not items:
            return None
        if left > _SOON * self._lengths.expected(items[0]) / speed:
            return None
        return self._copy(free, context, left, WORTH_A_COPY / 2)

    def _copy(
        self,
        free: FreeSlot,
        context: PlanningContext,
        queue: float,
        worth: float = WORTH_A_COPY,
    ) -> StartCopy | None:
        """Copy what gains most by it, of what runs longer than the queue lasts."""
        best, gain = None, 0.0
        for late in self._latest(context):
            attempt, left = late.attempt, late.ends - context.now
            if left <= gain or not _may_copy(attempt, free, context):
                continue
            produced = late.produced
            again = self._times.again(free, attempt.item, produced, context)
            if again is None or queue + again > worth * left:
                continue
            if queue and again > queue + self._times.elsewhere(
                free.node, attempt.item, context
            ):
                continue
            if left - again > gain:
                best, gain = attempt, left - again
        return StartCopy(best.item.id) if best else None

    def _latest(self, context: PlanningContext) -> Sequence[LateAttempt]:
        """Return the attempts that end last, as far as they are still in flight.

        With many in flight an older list will do: a second is little of an item.
        """
        running = context.running
        kept = running.latest
        if kept is None or not kept.good(context.now, running.version):
            kept = running.latest = self._look(context)
        return [
            each for each in kept.some if each.attempt in running.attempts(each.item)
        ]

    def _look(self, context: PlanningContext) -> LatestEnds:
        some = []
        for attempt in context.running:
            left, produced = self._times.left(attempt, context)
            some.append(LateAttempt(context.now + left, produced, attempt))
        crowd = max(0, len(some) - _CROWD)
        some = nlargest(_MOST_LOOKED_AT_LATE, some, key=lambda late: late.ends)
        until = context.now + crowd * _SECONDS_EACH
        return LatestEnds(context.running.version, context.now, until, tuple(some))


def _worthwhile(free: FreeSlot, model: str, context: PlanningContext) -> bool:
    return free.in_flight < context.speeds.worthwhile(free.node, model)


def _kept_quick(free: FreeSlot, model: str, context: PlanningContext) -> bool:
    """Say whether the rest of a node's slots stay idle for what opens a job there.

    Streams that share a node slow each other.
    """
    if not any(node == free.node for _, node in context.running.opening):
        return False
    return half_full(free, model, context)


def _claim(node: str, model: str, context: PlanningContext) -> bool:
    """Let one node at a time run empty for a model that is behind."""
    claims = context.running.claims
    claimed = next((each for each, m in claims.items() if m == model), None)
    if claimed is None:
        claims[node] = model
    return claimed in {None, node}


def _of_different_weight(
    items: Sequence[Pending], free: FreeSlot, context: PlanningContext
) -> Iterator[Pending]:
    """Yield the first item of each weight that the node may run."""
    seen: set[tuple[bool, float]] = set()
    for item in items:
        alike = (item.opening, item.weight)
        if alike not in seen and _may_run(item, free, context):
            seen.add(alike)
            yield item
            if len(seen) == _MOST_LOOKED_AT:
                return


def _may_run(item: Pending, free: FreeSlot, context: PlanningContext) -> bool:
    """It does not go where it failed before, unless it failed everywhere."""
    return free.node not in item.avoid or len(item.avoid) >= len(context.speeds.nodes())


def _may_copy(attempt: Running, free: FreeSlot, context: PlanningContext) -> bool:
    item = attempt.item
    return (
        attempt.node != free.node
        and item.model in free.models
        and not context.running.copied(item.id)
        and free.node not in item.avoid
    )
