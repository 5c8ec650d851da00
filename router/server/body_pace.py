"""How slowly a body may come, and how much of it may be framing; no I/O.

A slow sender that goes on is served. One that stands still, or sends a byte now and
then to keep a connection, is not: as with Apache's `mod_reqtimeout`, what comes buys
time. Neither is one that sends chunks of next to nothing, which take time to read.
"""

from __future__ import annotations

from router.errors import BadRequestError

LEAST_BYTES_PER_SECOND = 500
_SPARE_BYTES = 65_536  # of framing, beyond as much as there is of the body


class BodyPace:
    """One body on its way.

    began_at:      monotonic seconds
    stall_seconds: longest time in which nothing comes; also the time that it has
                   before its mean rate counts
    """

    def __init__(self, began_at: float, stall_seconds: float) -> None:
        self._began_at = began_at
        self._stall_seconds = stall_seconds
        self._received = self._unwrapped = 0

    @property
    def message(self) -> str:
        """Return what a sender is told that was too slow."""
        return (
            f"the body came too slowly: nothing for {self._stall_seconds:g} s, or under"
            f" {LEAST_BYTES_PER_SECOND} bytes/s beyond them"
        )

    def left(self, now: float) -> float:
        """Return seconds until the next byte must be here."""
        earned = self._stall_seconds + self._received / LEAST_BYTES_PER_SECOND
        return min(self._stall_seconds, self._began_at + earned - now)

    def take(self, size: int) -> None:
        """Count what came, framing and all."""
        self._received += size

    def unwrap(self, size: int, ahead: int = 0) -> None:
        """Count what was in chunks. Raises BadRequestError where that is too little.

        ahead: what is unwrapped beyond and was not asked for yet
        """
        self._unwrapped += size
        if self._received > 2 * (self._unwrapped + ahead) + _SPARE_BYTES:
            raise BadRequestError("the body's chunks are too small")
