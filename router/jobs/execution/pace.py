"""Limits how fast attempts start, so that interactive streams are not delayed; pure.

Items that are answered at once could use the whole processor: starting, reading and
storing one takes about a millisecond. If the event loop is late, fewer start.
"""

from __future__ import annotations

from dataclasses import dataclass

_SHORTEST_SECONDS = 0.002
_LONGEST_SECONDS = 0.1
_LATE_SECONDS = 0.004
_LATE_ALONE_SECONDS = 0.03  # without interactive streams
_SLOWER = 1.5
_FASTER = 0.9


@dataclass(slots=True)
class StartThrottle:
    """`rest`: seconds between two rounds that start at most `most` attempts."""

    most: int = 4
    rest: float = _SHORTEST_SECONDS

    def woke(self, late: float, *, alone: bool) -> None:
        """Adapt to how late a rest ended; `alone`: no interactive request runs."""
        if late > (_LATE_ALONE_SECONDS if alone else _LATE_SECONDS):
            self.rest = min(self.rest * _SLOWER, _LONGEST_SECONDS)
        else:
            self.rest = max(self.rest * _FASTER, _SHORTEST_SECONDS)
