"""How much models are asked for, and what requests lose for want of a copy; pure.

A load pays when those who come later gain more by it than it costs; nobody knows how
many will come. So it is made when as much was lost already for want of it: who buys
when the rents have reached the price pays twice the least at most.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import exp

_SECONDS = 90.0  # over which arrivals are counted
_LEAST_SECONDS = 5.0  # the first few are no rate
_LOST_SECONDS = 120.0  # after which what was lost counts for a third
_MOST = 4096


@dataclass(slots=True)
class _Model:
    since: float
    arrivals: float = 0.0  # faded
    at: float = 0.0
    lost: float = 0.0
    lost_at: float = 0.0


class Demand:
    """Arrivals and losses, by model."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, _Model] = OrderedDict()

    def came(self, model: str, now: float) -> None:
        known = self._model(model, now)
        known.arrivals = self._faded(known, now) + 1.0
        known.at = now

    def lost(self, model: str, cost: float, now: float) -> None:
        """Add what a request lost because a node had not the model."""
        known = self._model(model, now)
        known.lost = self.losses(model, now) + cost
        known.lost_at = now

    def paid(self, model: str) -> None:
        """Forget the losses: a load was begun."""
        if model in self._models:
            self._models[model].lost = 0.0

    def per_second(self, model: str, now: float) -> float:
        """Return how often it is asked for; a new one as often as since it came."""
        known = self._models.get(model)
        if known is None:
            return 0.0
        seconds = max(_LEAST_SECONDS, now - known.since)
        return self._faded(known, now) / (_SECONDS * (1 - exp(-seconds / _SECONDS)))

    def losses(self, model: str, now: float) -> float:
        known = self._models.get(model)
        if known is None or not known.lost:
            return 0.0
        return known.lost * exp((known.lost_at - now) / _LOST_SECONDS)

    def _faded(self, known: _Model, now: float) -> float:
        return known.arrivals * exp((known.at - now) / _SECONDS)

    def _model(self, model: str, now: float) -> _Model:
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = _Model(now)
            if len(self._models) > _MOST:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(model)
        return known
