"""All simulated nodes in one event loop: their ports, their tick, their end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.clock import Clock
from simulator.control import Control
from simulator.http import Connection
from simulator.model import NodeSpec
from simulator.node import Node
from simulator.speed import Scaling

TICK_SECONDS = 0.01
"""Tokens leave in ticks: hundreds of streams then cost one wake-up each tick."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    listen: str
    control_port: int
    seed: int
    scaling: Scaling


class Fleet:
    """The nodes and their control endpoint."""

    def __init__(
        self, specs: Sequence[NodeSpec], settings: Settings, clock: Clock
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._awake = asyncio.Event()
        self._connections: set[Connection] = set()
        self.nodes = tuple(
            Node(
                spec,
                clock,
                listen=settings.listen,
                seed=settings.seed,
                scaling=settings.scaling,
                wake=self._awake.set,
            )
            for spec in specs
        )

    async def open(self) -> None:
        """Listen on every port; raises OSError for one that is taken."""
        for node in self.nodes:
            await node.open()
        control = Control(self.nodes)
        await asyncio.get_running_loop().create_server(
            lambda: Connection(control, self._connections),
            self._settings.listen,
            self._settings.control_port,
        )

    async def run(self) -> None:
        """Tick while anything is under way, for ever."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            began = self._clock.monotonic()
            if self._tick():
                self._awake.set()
            spent = self._clock.monotonic() - began
            await asyncio.sleep(max(TICK_SECONDS - spent, 0))

    def _tick(self) -> bool:
        stamp = self._clock.stamp()
        busy = [node.tick(stamp) for node in self.nodes]
        return any(busy)
