"""Prompts of ours are read beside streams of ours: that is nobody else's work."""

from __future__ import annotations

import random
from functools import partial

import pytest

from bench.virtual.runner import MODEL, Fleet
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
            lease.streams, stream.first = False, None

    def ended(self, name: str) -> None:
        self.ends += 1
        self.suspected += self.fleet.ledger.external(name) is not None


@pytest.mark.parametrize("streams", [True, False], ids=["streams", "whole replies"])
@pytest.mark.parametrize("scaling", [Scaling.KERNEL, Scaling.H200, Scaling.CPU_STARVED])
def test_long_prompts_of_ours_accuse_nobody(scaling, streams):
    """A quarter of an hour of them: no node is ever suspected."""
    busy = Busy(scaling, streams=streams)
    busy.clock.run(900.0)
    assert busy.ends > 60
    assert busy.suspected == 0


def test_a_node_that_slows_down_is_still_suspected():
    """What its prompts do not explain, beside prompts that are read as well."""
    busy = Busy(Scaling.KERNEL)
    busy.prompts = (200, 2_000)
    busy.clock.run(300.0)
    assert busy.suspected == 0
    for node in busy.fleet.nodes.values():
        node.slowdown = 4.0
    busy.clock.run(400.0)
    assert busy.suspected > 0
