"""How much of bodies is held in memory at one time, of requests and whole replies.

Each body has a limit of its own, which bounds one client; this bounds them all.
What came in one piece with a request's head (8 KiB at most) is not counted, so
that a usual request costs nothing here.
"""

from __future__ import annotations

import math

from router.errors import BodiesFullError

_RETRY_AFTER_SECONDS = 5.0


class BodyBudget:
    """The bytes that are held; `most_bytes` may change at any time."""

    def __init__(self, most_bytes: float = math.inf) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0

    def expect(self, size: int) -> None:
        """Raise BodiesFullError where `size` more do not fit: nothing is held yet."""
        if size > 0 and self.held_bytes + size > self.most_bytes:
            raise BodiesFullError(
                f"{self.held_bytes} bytes of bodies are held, {size} more"
                f" do not fit into {self.most_bytes:.0f} (dispatch.max_bodies_bytes)",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )

    def hold(self, size: int) -> None:
        """Count what has arrived. Raises BodiesFullError."""
        self.expect(size)
        self.held_bytes += size

    def release(self, size: int) -> None:
        self.held_bytes -= size
