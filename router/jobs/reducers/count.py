"""`count`: counts each answer, or each value of a field of it."""

from __future__ import annotations

from router.jobs.model import ItemResult
from router.jobs.reducers.answers import Path, path_of, value_at, word_of
from router.jobs.reducers.kind import ReducerKind
from router.jobs.reducers.protocols import Partial, Rowwise
from router.jobs.reducers.spec import Spec

_LONGEST_FIELD = 500
_LONGEST_VALUE = 100
_SHOWN = 50


class Count(Rowwise):
    """Counts values; `unusable`: answers without a value, and failed rows."""

    def __init__(self, path: Path, total: int) -> None:
        super().__init__(total)
        self._path = path
        self._counts: dict[str, int] = {}
        self._unusable = 0

    def take(self, _: int, result: ItemResult) -> None:
        found = None if result.error else word_of(value_at(result.text, self._path))
        if result.error or found is None:
            self._unusable += 1
            return
        value = found[:_LONGEST_VALUE]
        self._counts[value] = self._counts.get(value, 0) + 1

    def partial(self) -> Partial:
        return Partial(self._figures(_SHOWN), self.seen.count)

    def output(self) -> object:
        return self._figures(len(self._counts))

    def _figures(self, most: int) -> dict[str, object]:
        ordered = ranked(self._counts)
        return {
            "count": sum(self._counts.values()),
            "unusable": self._unusable,
            "different": len(self._counts),
            "values": dict(ordered[:most]),
        }


def ranked(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Order by count, then by value, so that the order is stable."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def count(spec: Spec, total: int) -> Count:
    path = path_of(spec.text("field", "", _LONGEST_FIELD))
    spec.close()
    return Count(path, total)


KIND = ReducerKind(count, "Count", "How often each answer was given", fields=("field",))
