"""How many slots of a node are used for a model, below its ceiling; pure.

`SlotPolicy` is what the ledger asks; `LearnedSlots` stops where one more stream
lowers the node's total.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from router.capacity.scaling import NO_KIND, Kind, Limits, Looks, Place, Reply, Shape
from router.capacity.throughput import expected_ratio
from router.model import Node

_MOST_MODELS = 1024  # of a model nobody asks for any more, the oldest is forgotten
_MOST_KEPT = 256  # models in the file, the newest
_KIND = ("vram_bytes", "tflops")  # nodes that are alike in these are of a kind

Key = tuple[str, str]


class SlotPolicy(Protocol):
    """Decides after each reply that taught something."""

    def configure(self, nodes: Iterable[Node]) -> None: ...

    def limits(self, key: Key, ceiling: int, now: float) -> Limits: ...

    def replied(self, key: Key, reply: Reply, ceiling: int, looks: Looks) -> bool:
        """Take note of a reply; say whether limits of other nodes may have changed."""

    def ratio(self, key: Key) -> Callable[[int, int], float]:
        """Return the function that gives S(k) over S(known)."""

    def forget(self, key: Key) -> None:
        """Take note that nobody asks a node for a model any more."""

    def kept(self, now: float) -> list[Any]:
        """Return what is to outlive the process, as JSON; ages for times."""

    def recall(self, kept: Sequence[Any], now: float) -> None:
        """Take that over, `now` being when it was kept."""


class LearnedSlots:
    """Caps at the k from which one more stream lowers the total.

    What is learned of a model is shared over the fleet, nodes of a kind first.
    """

    def __init__(self) -> None:
        self.shapes: OrderedDict[str, Shape] = OrderedDict()
        self._kinds: dict[str, Kind] = {}

    def configure(self, nodes: Iterable[Node]) -> None:
        """Take over the nodes there are, and which are of a kind."""
        self._kinds = {n.name: tuple(map(n.attributes.get, _KIND)) for n in nodes}
        for shape in self.shapes.values():
            shape.keep(self._kinds)

    def limits(self, key: Key, ceiling: int, now: float) -> Limits:
        node, model = key
        shape = self.shapes.get(model)
        if shape is None:
            return Limits(ceiling, ceiling)
        return shape.limits(Place(node, self._kind(node), ceiling), now)

    def replied(self, key: Key, reply: Reply, ceiling: int, looks: Looks) -> bool:
        node, model = key
        shape = self.shapes.get(model) or Shape()
        self.shapes[model] = shape
        self.shapes.move_to_end(model)
        if len(self.shapes) > _MOST_MODELS:
            self.shapes.popitem(last=False)
        before = shape.verdicts
        shape.learn(Place(node, self._kind(node), ceiling, looks), reply)
        return shape.verdicts != before

    def ratio(self, key: Key) -> Callable[[int, int], float]:
        node, model = key

        def ratio(streams: int, known: int) -> float:
            shape = self.shapes.get(model)
            if shape is None:
                return expected_ratio(streams, known)
            return shape.steps(node, self._kind(node)).ratio(streams, known)

        return ratio

    def forget(self, key: Key) -> None:
        node, model = key
        if model in self.shapes:
            self.shapes[model].forget(node)

    def _kind(self, node: str) -> Kind:
        return self._kinds.get(node, NO_KIND)

    def kept(self, now: float) -> list[Any]:
        return [
            [model, shape.kept(now)]
            for model, shape in list(self.shapes.items())[-_MOST_KEPT:]
        ]

    def recall(self, kept: Sequence[Any], now: float) -> None:
        for model, shape in kept:
            self.shapes[str(model)] = Shape.recalled(shape, now)
