"""Prompts of ours are read beside streams of ours: that is nobody else's work."""

from __future__ import annotations

import random
from functools import partial

import pytest

from bench.virtual.runner import MODEL, Fleet
from router.capacity.drift import LOOK_SECONDS
from simulator.virtual.clock import Clock
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.workload import Ask

pytestmark = pytest.mark.long

SPECS = [Spec("quick", 120, 4500), Spec("slow", 30, 900)]


class Busy:
    """Nodes that are asked for answers to long prompts at any time."""

    def __init__(self, scaling: Scaling, *, streams: bool = True) -> None:
        self.clock = Clock()
        self.fleet = Fleet(SPECS, scaling, self.clock)
        self.rng = random.Random(3)
        self.streams = streams
        self.suspected = 0
        self.ends = 0
        self.prompts = (200, 16_000)
        for name in self.fleet.nodes:
            self.ask(name)
            self.clock.at(self.rng.random(), partial(self.more, name))
        self.drifts: list[tuple[str, str]] = []
        self.fleet.ledger.learned.drift = self.drift  # type: ignore[method-assign]
        self.look()

    def drift(self, key: tuple[str, str], share: float, now: float) -> None:
        self.drifts.append(key)
        self.fleet.ledger.curves[key].drift(share, now)

    def look(self) -> None:
        self.fleet.ledger.look_at_streams()
        self.clock.at(self.clock.now + LOOK_SECONDS, self.look)

    def more(self, name: str) -> None:
        """Another comes, if it may, and one more after a while."""
        if self.fleet.ledger.room(name, MODEL) is not None:
            self.ask(name)
        pause = self.rng.expovariate(1.0)
        self.clock.at(self.clock.now + pause, lambda: self.more(name))

    def ask(self, name: str) -> None:
        ledger, rng = self.fleet.ledger, self.rng
        lease = ledger.take(name, MODEL)
        ask = Ask(rng.randint(*self.prompts), rng.randint(40, 400))
        stream = self.fleet.run(lease, ask, lambda _: self.ended(name))
        if not self.streams:
            lease.streams, stream.first, lease.reply = False, None, None

    def ended(self, name: str) -> None:
        self.ends += 1
        self.suspected += self.fleet.ledger.external(name) is not None


@pytest.mark.parametrize("streams", [True, False], ids=["streams", "whole replies"])
@pytest.mark.parametrize("scaling", [Scaling.KERNEL, Scaling.H200, Scaling.CPU_STARVED])
def test_long_prompts_of_ours_accuse_nobody(scaling, streams):
    """A quarter of an hour of them: no node is ever suspected, nor seen to drift."""
    busy = Busy(scaling, streams=streams)
    busy.clock.run(900.0)
    assert busy.ends > 60
    assert busy.suspected == 0
    assert not busy.drifts


def test_a_node_that_slows_down_is_still_suspected():
    """What its prompts do not explain, beside prompts that are read as well."""
    busy = Busy(Scaling.KERNEL)
    busy.prompts = (200, 2_000)
    busy.clock.run(300.0)
    assert busy.suspected == 0
    assert not busy.drifts
    for node in busy.fleet.nodes.values():
        node.slow(4.0)
    busy.clock.run(320.0)
    assert {key[0] for key in busy.drifts} == {"quick", "slow"}
    busy.clock.run(400.0)
    assert busy.suspected > 0
