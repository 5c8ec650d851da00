"""Virtual time: what is due, in order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from math import inf


class Clock:
    """Moves from one event to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (max(when, self.now), next(self._numbers), act))

    def run(
        self, until: float = inf, *, done: Callable[[], bool] | None = None
    ) -> None:
        """Let things happen until nothing is due, it is late, or all is done."""
        while self._due and self._due[0][0] <= until and not (done and done()):
            self.now, _, act = heapq.heappop(self._due)
            act()
