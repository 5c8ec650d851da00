"""How many retries there may be, so that a fleet in trouble is not flooded by them."""

from __future__ import annotations


class RetryBudget:
    """Retries may be a share of the requests, and a few more; no storm beyond.

    Each request deposits `ratio`, each retry takes 1; `minimum` is there from
    the start and the most that can be saved up beyond one retry for each.
    """

    def __init__(self, ratio: float, minimum: int) -> None:
        self.tune(ratio, minimum)
        self._saved = self._most

    def tune(self, ratio: float, minimum: int) -> None:
        """Take over new settings; what was saved up stays."""
        self._ratio = ratio
        self._most = float(minimum)

    def deposit(self) -> None:
        self._saved = min(self._most, self._saved + self._ratio)

    def withdraw(self) -> bool:
        """Take a retry; False when none is left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
