"""NVIDIA GPUs, from the driver's own library.

Calls nothing of the library itself: samplers do, on threads of their own, and a
scrape tells what they left behind. What a GPU does not offer is no series; one that
is lost or hangs loses its series and says `inferops_gpu_up 0`; the others stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import Metric

from exporters.errors import PartialError
from exporters.gpu.card import Setting
from exporters.gpu.catalogue import exposed
from exporters.gpu.events import EventLog
from exporters.gpu.loops import Loop, Spawn, State, spawn
from exporters.gpu.rows import Row
from exporters.gpu.selection import Selection
from exporters.gpu.session import Opened, Session
from exporters.gpu.settings import GpuSettings
from exporters.gpu.telling import Reported, counts, reported
from exporters.nvml_library import NVML, Nvml

SESSION_TICK_SECONDS = 0.25

# The first scrape waits so long for the samplers' first turn, and no later one does.
FIRST_SECONDS = 3.0


class NvmlCollector:
    """Begins to sample at `start`, or at the first scrape."""

    def __init__(
        self,
        nvml: Nvml = NVML,
        choice: GpuSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        spawn: Spawn = spawn,
        select: Callable[[], Selection | None] = lambda: None,
        renew: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the parts; see `Setting` for select and renew."""
        self._choice = choice or GpuSettings()
        self._clock = clock
        self._spawn = spawn
        self._events = EventLog(wall)
        self._session = Session(
            Setting(nvml, self._choice, self._events, clock, wall, spawn, select, renew)
        )
        self._loop = Loop(
            "session",
            self._session.step,
            interval=SESSION_TICK_SECONDS,
            clock=clock,
            wall=wall,
        )
        self._started = False

    def start(self) -> None:
        """Begin to sample, unless that has been done."""
        if not self._started:
            self._started = True
            self._spawn(self._loop)

    def collect(self, deadline: float) -> Iterator[Metric]:
        self.start()
        session = self._session
        session.settled.wait(max(0, min(FIRST_SECONDS, deadline - self._clock())))
        session.settled.set()
        now = self._clock()
        fault = self._fault(now)
        opened = session.opened
        cards = [reported(card, now) for card in opened.cards] if opened else []
        faults = [text for card in cards for text in card.faults]
        faults += opened.faults if opened else ()
        yield from exposed(self._rows(opened, cards))
        if fault is not None:
            faults.append(fault)
        if faults:
            raise PartialError("; ".join(faults))

    def _fault(self, now: float) -> str | None:
        if self._loop.state(now) is State.HANGS:
            return "opening the library hangs"
        if self._loop.reason:
            return f"sampling has ended: {self._loop.reason}"
        return self._session.fault

    def _rows(self, opened: Opened | None, cards: list[Reported]) -> Iterator[Row]:
        if opened:  # no card at all is a finding, too
            yield from counts(cards, opened.listed)
        by_card = [(card.uuid or "", row) for card in cards for row in card.rows]
        for uuid in sorted(self._events.uuids()):
            by_card += [(uuid, row) for row in self._events.rows(uuid)]
        for uuid, row in by_card:
            # An instance of a card brings its own uuid.
            yield row._replace(labels={"uuid": uuid, **row.labels})

    def close(self) -> bool:
        """End the samplers; False where the driver keeps hold of one."""
        self._loop.end()
        return (not self._started or self._loop.ended(1)) and self._session.end()
