"""How fast attempts may be begun, so that people's streams do not feel them; pure.

Items that are answered at once could take the whole processor: beginning, reading
and keeping one costs about a millisecond. When the event loop is late, fewer begin.
"""

from __future__ import annotations

from dataclasses import dataclass

_SHORTEST_SECONDS = 0.002
_LONGEST_SECONDS = 0.1
_LATE_SECONDS = 0.004
_LATE_ALONE_SECONDS = 0.03  # where no stream is there to feel it
_SLOWER = 1.5
_FASTER = 0.9


@dataclass(slots=True)
class StartThrottle:
    """`rest`: seconds between two rounds of at most `most` beginnings."""

    most: int = 4
    rest: float = _SHORTEST_SECONDS

    def woke(self, late: float, *, alone: bool) -> None:
        """Take note of how late a rest ended; `alone`: no person waits for a reply."""
        if late > (_LATE_ALONE_SECONDS if alone else _LATE_SECONDS):
            self.rest = min(self.rest * _SLOWER, _LONGEST_SECONDS)
        else:
            self.rest = max(self.rest * _FASTER, _SHORTEST_SECONDS)
