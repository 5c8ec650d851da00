"""Why a request went where it went; the last few thousand, for `/admin/explain`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from router.dispatch.pipeline import Decision


@dataclass(slots=True)
class Step:
    """One decision, and what came of the attempt (None: it was presented)."""

    decision: Decision
    failure: str | None = None


@dataclass(slots=True)
class Trail:
    """What happened to one request; times in unix seconds."""

    request_id: str
    path: str
    model: str
    at: float
    steps: list[Step] = field(default_factory=list)
    ended: str = ""

    @property
    def attempts(self) -> int:
        return len(self.steps)


class Trails:
    """The newest `limit` trails, by request id."""

    def __init__(self, limit: int = 2_000) -> None:
        self._limit = limit
        self._trails: OrderedDict[str, Trail] = OrderedDict()

    def add(self, trail: Trail) -> None:
        self._trails[trail.request_id] = trail
        if len(self._trails) > self._limit:
            self._trails.popitem(last=False)

    def get(self, request_id: str) -> Trail | None:
        return self._trails.get(request_id)

    def newest(self, count: int) -> list[Trail]:
        return list(self._trails.values())[-count:][::-1]
