"""A reply on its way to a client, token by token, as the ledger sees it."""

from __future__ import annotations

from collections.abc import Callable


class PassedOn:
    """Counts what a simulated node has said; nothing cuts it."""

    movable = answered = False
    mark = None

    def __init__(self, tokens: Callable[[], float]) -> None:
        self._tokens = tokens

    @property
    def lines(self) -> int:
        return int(self._tokens() + 1e-6)

    reads = lines  # each is read as it comes

    def moved_within(self, _: float) -> bool:
        return True

    def evict(self) -> bool:
        return False

    def abandon(self, _: str) -> bool:
        return False
