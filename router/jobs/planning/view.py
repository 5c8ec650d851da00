"""The input of the planning policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router.jobs.model import Backlog, FreeSlot, Pending
from router.jobs.planning.in_flight import InFlightItems
from router.jobs.planning.protocols import Speeds, Waiting


@dataclass(frozen=True, slots=True)
class PlanningContext:
    """What a choice depends on; `now`: monotonic seconds."""

    waiting: Waiting
    running: InFlightItems
    speeds: Speeds
    now: float


class _Once:
    """Caches waiting items for one choice: they may be summed at each call."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._models: Mapping[str, Backlog] | None = None
        self._heaviest: dict[str, Sequence[Pending]] = {}

    def models(self) -> Mapping[str, Backlog]:
        if self._models is None:
            self._models = self._waiting.models()
        return self._models

    def heaviest(self, model: str) -> Sequence[Pending]:
        found = self._heaviest.get(model)
        if found is None:
            found = self._heaviest[model] = self._waiting.heaviest(model)
        return found


def cached(context: PlanningContext) -> PlanningContext:
    if isinstance(context.waiting, _Once):
        return context
    return replace(context, waiting=_Once(context.waiting))


def waits(context: PlanningContext, model: str) -> bool:
    backlog = context.waiting.models().get(model)
    return backlog is not None and backlog.items > 0


def half_full(free: FreeSlot, model: str, context: PlanningContext) -> bool:
    return 2 * free.in_flight >= context.speeds.worthwhile(free.node, model)
