"""What batch requests leave for interactive ones, and what they get all the same; pure.

Nothing that runs is taken back, so an interactive request finds a slot free only where
batch requests did not take the last ones. Where interactive ones keep the fleet busy,
batch requests get one slot of it in turn: none waits for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from router.model import Priority
from router.scheduling.fairness import FairShares

__all__ = ["HeadRoom"]


@dataclass(slots=True)
class HeadRoom:
    """How many slots batch requests may take.

    share:        of the fleet's slots, kept free of them; rounded down
    wait_seconds: after which the first in line goes before interactive requests,
                  where no other batch request runs
    """

    share: float = 0.0
    wait_seconds: float = inf

    def keeps_out(
        self,
        priority: Priority,
        shares: dict[Priority, FairShares],
        slots: Callable[[], int],
    ) -> bool:
        """Say whether the slots that are free are not for this priority."""
        if not self.share or priority is not Priority.BATCH:
            return False
        running = sum(each.running for each in shares.values())
        total = slots()
        return running >= total - int(self.share * total)

    def is_due(self, waited: float, running: int) -> bool:
        """Say whether the first batch request in line goes before others."""
        return not running and waited >= self.wait_seconds
