"""Time as the simulator takes it: two clocks given from outside, and their forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

_FAR_FUTURE = datetime(2319, 3, 4, tzinfo=UTC)  # what Ollama shows for "for ever"


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds that only grow, and unix seconds."""

    monotonic: Callable[[], float]
    unix: Callable[[], float]

    def stamp(self) -> str:
        """Return the wall clock as Ollama writes it."""
        return rfc3339(self.unix())


def rfc3339(unix: float) -> str:
    """Write a time as Go does, in UTC; what is beyond all dates is far away."""
    at = datetime.fromtimestamp(min(unix, _FAR_FUTURE.timestamp()), UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
