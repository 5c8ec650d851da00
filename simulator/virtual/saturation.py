"""What a node does at most: its rate with every count of streams kept busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from simulator.virtual.clock import Clock
from simulator.virtual.node import TOTALS, Scaling, Spec, Stream, VirtualNode
from simulator.virtual.workload import Ask

_LEAST = 1000  # ends, so that what is in flight at the end counts for little


@lru_cache(maxsize=4096)
def rates(spec: Spec, scaling: Scaling, asks: tuple[Ask, ...]) -> tuple[float, ...]:
    """Return items/s with 1, 2, … streams kept busy, of items like these."""
    return tuple(
        _closed(spec, scaling, streams, asks) for streams in range(1, spec.slots + 1)
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
