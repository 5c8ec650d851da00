"""`map`: keeps each answer; nothing is combined."""

from __future__ import annotations

from router.jobs.reducers.kind import ReducerKind
from router.jobs.reducers.protocols import Partial, Rowwise
from router.jobs.reducers.spec import Spec


class Keep(Rowwise):
    def partial(self) -> Partial:
        return Partial(None, self.seen.count)

    def output(self) -> None:
        return None


def keep(spec: Spec, total: int) -> Keep:
    spec.close()
    return Keep(total)


KIND = ReducerKind(keep, "Keep each", "One answer for each row")
