"""How far predictions were off, as sums: for metrics."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_MOST_MODELS = 4096


@dataclass(slots=True)
class Deviation:
    """Sums over replies: what was expected, what came, and |expected - actual|."""

    replies: int = 0
    expected: float = 0.0
    actual: float = 0.0
    missed: float = 0.0

    def add(self, expected: float, actual: float) -> None:
        self.replies += 1
        self.expected += expected
        self.actual += actual
        self.missed += abs(expected - actual)


class Deviations:
    """Deviations by model; the model that was used longest ago is forgotten."""

    def __init__(self) -> None:
        self.by_model: OrderedDict[str, Deviation] = OrderedDict()

    def add(self, model: str, expected: float, actual: float) -> None:
        known = self.by_model.get(model)
        if known is None:
            known = self.by_model[model] = Deviation()
            if len(self.by_model) > _MOST_MODELS:
                self.by_model.popitem(last=False)
        else:
            self.by_model.move_to_end(model)
        known.add(expected, actual)
