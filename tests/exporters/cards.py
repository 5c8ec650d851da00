"""The GPU collector on made-up cards: stepped by a clock of its own, or on threads."""

from __future__ import annotations

import time
from collections.abc import Sequence

from exporters import nvml_library
from exporters.collectors.nvml import NvmlCollector
from exporters.errors import CollectError
from exporters.gpu.loops import Loop
from exporters.gpu.settings import GpuSettings
from tests.exporters.exposition import collected, text, values
from tests.exporters.fake_nvml import FakeCard, FakeLibrary
from tests.harness.poll import until

WALL = 1_795_384_005.0  # where windows begin


class Watched:
    """A collector and what it last told."""

    library: FakeLibrary
    collector: NvmlCollector
    error: CollectError | None = None
    text = ""

    @property
    def cards(self) -> list[FakeCard]:
        return self.library.cards

    def scrape(self) -> dict[str, float]:
        metrics, self.error = collected(self.collector)
        self.text = text(metrics)
        return values(self.text)

    def end(self) -> None:
        raise NotImplementedError


class Stepped(Watched):
    """No thread and no real time: `run` lets so many seconds pass."""

    def __init__(self, made: Sequence[FakeCard], choice: GpuSettings) -> None:
        self.now = 0.0
        self.step = 0.05
        self.library = FakeLibrary(made, lambda: self.now, patient=False)
        nvml_library.use(self.library)
        self._due: list[tuple[Loop, float]] = []
        self.selection = choice.gpus
        self.opened_in_vain = 0
        self.collector = NvmlCollector(
            choice=choice,
            clock=lambda: self.now,
            wall=lambda: WALL + self.now,
            spawn=lambda loop: self._due.append((loop, self.now)),
            select=lambda: self.selection,
            renew=self._renew,
        )
        self.collector.start()

    def _renew(self) -> None:
        self.opened_in_vain += 1

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self._turn()
            self.now = round(self.now + self.step, 6)
        self._turn()

    def _turn(self) -> None:
        waiting, self._due = self._due, []
        for loop, due in waiting:
            if self.now < due:
                self._due.append((loop, due))
            elif loop._stop.is_set():
                loop.close()
            elif loop.once():
                self._due.append((loop, due + max(loop.interval, self.step)))

    def end(self) -> None:
        nvml_library.use(None)


class Threaded(Watched):
    """On threads, in real time; `skip` lets time pass at once."""

    def __init__(self, made: Sequence[FakeCard], choice: GpuSettings) -> None:
        self.skipped = 0.0
        self.library = FakeLibrary(made, self._clock)
        nvml_library.use(self.library)
        self.collector = NvmlCollector(
            choice=choice, clock=self._clock, wall=lambda: WALL + self._clock()
        )

    def _clock(self) -> float:
        return time.monotonic() + self.skipped

    def skip(self, seconds: float) -> None:
        self.skipped += seconds

    def end(self) -> None:
        self.library.let_go.set()
        self.library.gone = None
        until(self.collector.close, "its threads end")
        # A thread that hung at the opening closes its set when it is let go.
        until(lambda: self.library.open_sets == 0, "no event set is left open")
        nvml_library.use(None)
