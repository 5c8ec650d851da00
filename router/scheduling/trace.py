"""Why a request went where it went; the last few thousand, for `/admin/explain`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from operator import attrgetter

from router.capacity.ledger import Lease
from router.scheduling.pipeline import Decision
from router.tracing.spans import RequestSpans

# A decision over a thousand nodes names each of them, and holds what was known of
# it: a few thousand of those would be the most of the router's memory.
_MOST_CANDIDATES = 24
_MOST_REJECTED = 40


@dataclass(slots=True)
class TraceStep:
    """One decision, and what came of the attempt (None: it was presented).

    left_out: nodes of a large fleet of which nothing is kept
    lease:    the slot that it took, which tells when tokens came
    """

    decision: Decision
    failure: str | None = None
    left_out: int = 0
    lease: Lease | None = None

    @classmethod
    def of(cls, decision: Decision, lease: Lease | None = None) -> TraceStep:
        """Keep a decision: of a large fleet, the best candidates and some reasons."""
        candidates, refused = decision.candidates, decision.refused
        full, barred = decision.full, decision.barred
        rejected = len(refused) + len(full) + len(barred)
        left_out = decision.slower + max(0, len(candidates) - _MOST_CANDIDATES)
        left_out += max(0, rejected - _MOST_REJECTED)
        if not left_out:
            return cls(decision, lease=lease)
        best = candidates
        if len(candidates) > _MOST_CANDIDATES:
            best = tuple(
                nsmallest(_MOST_CANDIDATES, candidates, key=attrgetter("cost"))
            )
        if rejected > _MOST_REJECTED:
            refused = dict(islice(refused.items(), _MOST_REJECTED))
            full = full[: _MOST_REJECTED - len(refused)]
            barred = barred[: _MOST_REJECTED - len(refused) - len(full)]
        kept = decision._replace(
            candidates=best, refused=refused, full=full, barred=barred
        )
        return cls(kept, None, left_out, lease)


@dataclass(slots=True)
class DecisionTrace:
    """What happened to one request; times in unix seconds.

    over_at: when it was over, on the clock of leases; None until then
    owner:   whose request it was; empty: nobody's (`router.access.principal`)
    spans:   of a traced request, until it is over
    """

    request_id: str
    path: str
    model: str
    at: float
    steps: list[TraceStep] = field(default_factory=list)
    ended: str = ""
    over_at: float | None = None
    owner: str = ""
    spans: RequestSpans | None = None

    @property
    def attempts(self) -> int:
        return len(self.steps)


class DecisionTraces:
    """The newest `limit` trails, by request id."""

    def __init__(self, limit: int = 2_000) -> None:
        self._limit = limit
        self._traces: OrderedDict[str, DecisionTrace] = OrderedDict()

    def add(self, trace: DecisionTrace) -> None:
        self._traces[trace.request_id] = trace
        if len(self._traces) > self._limit:
            self._traces.popitem(last=False)

    def get(self, request_id: str) -> DecisionTrace | None:
        return self._traces.get(request_id)

    def newest(
        self, count: int, seen: Callable[[str], bool] = lambda _: True
    ) -> list[DecisionTrace]:
        """Return the newest first; `seen` says of whose requests they may be."""
        found = (each for each in reversed(self._traces.values()) if seen(each.owner))
        return list(islice(found, count))
