"""`stats`: statistics of a number in each answer, exact in any order of results."""

from __future__ import annotations

from array import array
from fractions import Fraction
from math import sqrt

from router.jobs.model import ItemResult
from router.jobs.reducers.answers import Path, number_of, path_of, value_at
from router.jobs.reducers.kind import ReducerKind
from router.jobs.reducers.protocols import Partial, Rowwise
from router.jobs.reducers.spec import Spec

_LONGEST_FIELD = 500
_SHARES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


class Stats(Rowwise):
    """Sums are fractions: the sum of floats depends on their order.

    unusable: answers without a number, and failed rows
    """

    def __init__(self, path: Path, total: int) -> None:
        super().__init__(total)
        self._path = path
        self._values = array("d")
        self._sum = Fraction(0)
        self._squares = Fraction(0)
        self._unusable = 0

    def take(self, _: int, result: ItemResult) -> None:
        found = None if result.error else value_at(result.text, self._path)
        number = number_of(found)
        if number is None:
            self._unusable += 1
            return
        self._values.append(number)
        self._sum += Fraction(number)
        self._squares += Fraction(number) ** 2

    def partial(self) -> Partial:
        return Partial(self._figures(), self.seen.count)

    def output(self) -> object:
        """Return the statistics with quantiles, which need all values."""
        ordered = sorted(self._values)
        last = len(ordered) - 1
        shares = {
            name: ordered[round(share * last)] if ordered else None
            for name, share in _SHARES.items()
        }
        return self._figures() | shares

    def _figures(self) -> dict[str, float | int | None]:
        count = len(self._values)
        mean = self._sum / count if count else None
        spread = self._squares / count - mean**2 if mean is not None else None
        return {
            "count": count,
            "unusable": self._unusable,
            "sum": _float(self._sum),
            "mean": _float(mean),
            "min": min(self._values, default=None),
            "max": max(self._values, default=None),
            "standard_deviation": _root(spread),
        }


def _float(exact: Fraction | None) -> float | None:
    """JSON has no infinity: a sum that is too large for a float is none."""
    try:
        return None if exact is None else float(exact)
    except OverflowError:
        return None


def _root(exact: Fraction | None) -> float | None:
    number = _float(exact)
    return None if number is None else sqrt(number)


def stats(spec: Spec, total: int) -> Stats:
    path = path_of(spec.text("field", "", _LONGEST_FIELD))
    spec.close()
    return Stats(path, total)


KIND = ReducerKind(
    stats,
    "Figures",
    "Mean, spread and quantiles of a number in each answer",
    fields=("field",),
)
