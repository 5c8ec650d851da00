"""Estimates how long items take, in seconds; pure."""

from __future__ import annotations

from math import inf

from router.jobs.model import FreeSlot, Pending, Running
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.view import PlanningContext, half_full

# The quickest is not free just when the queue is empty (best of 1, 1.25, 1.5, 1.75).
_LATER = 1.25
_AS_LONG_AGAIN = 2.0


class JobEstimates:
    """Estimates from learned lengths and speeds."""

    def __init__(self, lengths: LengthPredictor) -> None:
        self._lengths = lengths

    def pace(self, free: FreeSlot, context: PlanningContext) -> tuple[float, bool]:
        """Return a sort key: nodes of unknown speed first, then fast ones.

        Of unknown ones the emptier first, for a job's first items: they are spread.
        """
        model = min(free.models, default="")
        streams = free.in_flight + 1
        speed = context.speeds.tokens_per_second(free.node, model, streams)
        if speed:
            return -speed, False
        first = next(iter(context.waiting.heaviest(model)), None)
        spread = first is not None and first.opening
        return -inf, spread and half_full(free, model, context)

    def seconds(
        self,
        free: FreeSlot,
        item: Pending,
        context: PlanningContext,
        tokens: float | None = None,
    ) -> float | None:
        """Return how long an item would take in the slot; None if unknown."""
        load = context.speeds.load_seconds(free.node, item.model)
        if item.model in free.resident or item.model in context.running.models(
            free.node
        ):
            load = 0.0
        streams = free.in_flight + 1
        seconds = self._run_seconds(free.node, item, streams, context, tokens)
        if seconds is None:
            seconds = _AS_LONG_AGAIN * _in_vain(free, item.model, context) or None
        return None if seconds is None else load + seconds

    def _run_seconds(
        self,
        node: str,
        item: Pending,
        streams: int,
        context: PlanningContext,
        tokens: float | None = None,
    ) -> float | None:
        speed = context.speeds.tokens_per_second(node, item.model, streams)
        if not speed:
            return None
        expected = self._tokens(item) if tokens is None else tokens
        return self.prompt_seconds(node, item, context) + expected / speed

    def _tokens(self, item: Pending) -> float:
        """Return the tokens that are yet to come of an item that waits."""
        if item.had:
            return self._lengths.remaining(item, item.had)
        return self._lengths.expected(item)

    def prompt_seconds(
        self, node: str, item: Pending, context: PlanningContext
    ) -> float:
        return 0.0 if item.home == node else self.read_seconds(node, item, context)

    def read_seconds(self, node: str, item: Pending, context: PlanningContext) -> float:
        speed = context.speeds.prompt_tokens_per_second(node, item.model)
        return (item.prompt + item.had) / speed if speed else 0.0

    def left(self, attempt: Running, context: PlanningContext) -> tuple[float, float]:
        """Return the seconds until an attempt ends, and its tokens so far."""
        item, node, speeds = attempt.item, attempt.node, context.speeds
        elapsed = context.now - attempt.since
        streams = max(1, speeds.streams(node))
        speed = speeds.tokens_per_second(node, item.model, streams)
        if speed is None:
            # A node that never ended anything: it will take as long again.
            typical = context.running.typical(item.model, speeds)
            usual = self._lengths.expected(item) / typical if typical else 0.0
            return max(elapsed * (_AS_LONG_AGAIN - 1), usual - elapsed), item.had
        # What it has, it mostly got while the node was full: slower than now.
        full = max(streams, speeds.worthwhile(node, item.model))
        then = speeds.tokens_per_second(node, item.model, full) or speed
        produced = (elapsed - self.prompt_seconds(node, item, context)) * then
        reading = max(0.0, -produced / then)
        produced = item.had + max(0.0, produced)
        return reading + self._lengths.remaining(item, produced) / speed, produced

    def again(
        self, free: FreeSlot, item: Pending, produced: float, context: PlanningContext
    ) -> float | None:
        """Return how long a copy would take, if another attempt has `produced`."""
        tokens = produced + self._lengths.remaining(item, produced)
        return self.seconds(free, item, context, tokens)

    def elsewhere(self, node: str, item: Pending, context: PlanningContext) -> float:
        """Return how long the fastest other node would take for the item later."""
        speeds = context.speeds
        fastest = context.running.fastest(item.model, speeds)
        if fastest is None or fastest == node:
            return inf
        streams = max(1, speeds.streams(fastest))
        seconds = self._run_seconds(fastest, item, streams, context)
        return inf if seconds is None else _LATER * seconds


def _in_vain(free: FreeSlot, model: str, context: PlanningContext) -> float:
    """Return how long a node has been at an item, if it never ended one."""
    there = [context.now - attempt.since for attempt in context.running.on(free.node)]
    return max([context.speeds.in_vain(free.node, model), *there])
