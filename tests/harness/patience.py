"""A patience that is over after so many seconds, whatever the node is doing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Patience:
    """Gives a node and a client so many seconds each."""

    seconds: float
    client_seconds: float

    @property
    def step_seconds(self) -> float:
        return self.seconds / 4

    def lost(self, silent_seconds: float) -> bool:
        return silent_seconds >= self.seconds
