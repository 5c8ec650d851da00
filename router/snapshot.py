"""What control publishes and dispatch reads: one frozen value, swapped whole.

Holds are not in here: the filters read them live (a pass that began before a
webhook would publish over the new hold).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from router.model import Degrade, Node, Score


@dataclass(frozen=True, slots=True)
class PresentModel:
    """A model on a node's disk; `listing` is its entry in `/api/tags` as it came."""

    name: str
    digest: str
    size_bytes: int
    listing: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A model loaded on a node; `listing` is its entry in `/api/ps` as it came."""

    name: str
    digest: str
    size_bytes: int
    vram_bytes: int
    listing: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the last pass saw it.

    present, resident: by canonical name; None until a poll has answered
    """

    node: Node
    score: Score
    version: str | None = None
    present: Mapping[str, PresentModel] | None = None
    resident: Mapping[str, ResidentModel] | None = None


@dataclass(frozen=True, slots=True, eq=False)  # no two are compared node by node
class Snapshot:
    """One decision of the control loop.

    nodes:   by name, in the inventory's order
    made_at: monotonic seconds of the decision
    """

    nodes: Mapping[str, NodeView]
    made_at: float
    degrade: Degrade = Degrade.STATIC


class Published:
    """The one reference that control swaps and dispatch takes once a request.

    What requests find out between two passes corrects each snapshot.
    """

    def __init__(self, first: Snapshot) -> None:
        self._decided = self._current = first
        self._correct: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot
        self._listeners: list[Callable[[], None]] = []

    def correct_by(self, correct: Callable[[Snapshot], Snapshot]) -> None:
        """Have each snapshot corrected; `refresh` says that the correction changed."""
        self._correct = correct

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back after each publish, in the publisher's greenlet."""
        self._listeners.append(callback)

    @property
    def current(self) -> Snapshot:
        return self._current

    def publish(self, snapshot: Snapshot) -> None:
        self._decided = snapshot
        self.refresh()

    def refresh(self) -> None:
        """Publish the last decision again, as it is corrected now."""
        self._current = self._correct(self._decided)
        for callback in self._listeners:
            callback()


class LoadView(Protocol):
    """What the ledger lets others read: counts and learned speeds."""

    def in_flight(self, node: str) -> int: ...

    def slots(self, node: str) -> int:
        """Ceiling of the node: configured, or learned."""

    def room(self, node: str, model: str) -> int | None:
        """Streams that run there as far as is known; None where no slot is free."""

    def speed(self, node: str, model: str, streams: int = 1) -> float | None:
        """Tokens per second of one of so many streams; None until one was seen."""
