"""What a node does at most: its rate with every count of streams kept busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from simulator.virtual.clock import Clock
from simulator.virtual.node import TOTALS, Scaling, Spec, Stream, VirtualNode
from simulator.virtual.workload import Ask

_MOST = 5000  # items that are looked at
_LEAST = 1000  # ends, so that what is in flight at the end counts for little


def rate(spec: Spec, scaling: Scaling, asks: tuple[Ask, ...]) -> float:
    """Return items/s at the best number of streams, of items like these."""
    return max(rates(spec, scaling, asks))


@lru_cache(maxsize=4096)
def rates(spec: Spec, scaling: Scaling, asks: tuple[Ask, ...]) -> tuple[float, ...]:
    """Return items/s with 1, 2, … streams kept busy, of items like these."""
    return tuple(
        _closed(spec, scaling, streams, asks) for streams in range(1, spec.slots + 1)
    )


def reachable(
    gaps: Sequence[float], spec: Spec, scaling: Scaling, asks: tuple[Ask, ...]
) -> float:
    """Return items that can be done in such gaps where each begins with reading.

    With k streams, k prompts and half an answer each are read before anything is as
    it would be without the gap: no order of items of the mean size does better. What
    is in a node's cache need not be read.
    """
    prompt = sum(ask.prompt + ask.tokens / 2 for ask in asks) / len(asks)
    reading = prompt / spec.prompt_speed
    found = rates(spec, scaling, asks)
    return sum(
        max(max(0.0, gap - k * reading) * each for k, each in enumerate(found, 1))
        for gap in gaps
    )


def anonymous(spec: Spec) -> Spec:
    """Forget a node's name: nodes alike are measured once."""
    return replace(spec, name="")


def _closed(spec: Spec, scaling: Scaling, streams: int, asks: Sequence[Ask]) -> float:
    """Keep so many streams busy; count what ends while all are."""
    clock = Clock()
    node = VirtualNode(spec, TOTALS[scaling], clock)
    want = max(len(asks), _LEAST)
    ends: list[float] = []
    begun = 0

    def begin() -> None:
        nonlocal begun
        ask = asks[begun % len(asks)]
        begun += 1
        node.begin(Stream(ask.prompt, ask.tokens, ended))

    def ended(_: Stream) -> None:
        ends.append(clock.now)
        begin()

    for _ in range(streams):
        begin()
    clock.run(done=lambda: len(ends) >= want)
    return len(ends) / clock.now


def bound(fleet: Sequence[Spec], scaling: Scaling, asks: Sequence[Ask]) -> float:
    """Return LBsat: the seconds below which no order brings the makespan."""
    some = tuple(asks[:_MOST])
    fleet_rate = sum(rate(anonymous(spec), scaling, some) for spec in fleet)
    # The few that were looked at may be longer or shorter than all.
    share = sum(a.tokens for a in some) / len(some)
    share /= sum(a.tokens for a in asks) / len(asks)
    fastest = max(fleet, key=lambda each: each.speed)
    longest = max(
        ask.prompt / fastest.prompt_speed + ask.tokens / fastest.speed for ask in asks
    )
    return max(len(asks) / (fleet_rate * share), longest)
