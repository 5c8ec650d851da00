"""What no scheduler can beat: the rate of a node, and the makespan of a fleet."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.virtual.node import Scaling, Spec
from simulator.virtual.saturation import anonymous, rates
from simulator.virtual.workload import Ask

_MOST = 5000  # items that are looked at


def rate(spec: Spec, scaling: Scaling, asks: tuple[Ask, ...]) -> float:
    """Return items/s at the best number of streams, of items like these."""
    return max(rates(spec, scaling, asks))


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
