"""A board's query with a time range and chosen values put in; pure.

What people choose is never pasted as it came: a label's value must be one that
Prometheus has, and is escaped; a number must be one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from router.errors import BadRequestError
from router.web.boards.catalogue import NUMBER, BoardQuery, BoardVariable

# As Grafana's data source has it (`timeInterval`, grafana/provisioning).
SCRAPE_SECONDS = 5
MOST_POINTS = 1_000
MOST_SECONDS = 400 * 86_400
MOST_VALUES = 200
EVERYTHING = "$__all"

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([a-zA-Z_]\w*))")
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")

# Values of each variable, as they were asked.
Choice = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Unix seconds, and how many points are wanted of it."""

    since: float
    until: float
    points: int

    @property
    def seconds(self) -> float:
        return self.until - self.since

    def step(self, query: BoardQuery) -> int:
        """Return seconds between points, whole, so that a refresh moves no figure.

        Never less than a scrape: as Grafana, which asks for no point twice.
        """
        least = query.min_step or SCRAPE_SECONDS
        points = min(self.points, query.most_points or self.points)
        return math.ceil(max(self.seconds / points, least))

    def params(self, query: BoardQuery) -> dict[str, str]:
        """Return Prometheus' parameters; edges lie on multiples of the step."""
        if query.instant:
            return {"time": f"{self.until:.3f}"}
        step = self.step(query)
        return {
            "start": str(math.floor(self.since / step) * step),
            "end": str(math.floor(self.until / step) * step),
            "step": str(step),
        }


def time_range(since: str, until: str, points: str) -> TimeRange:
    """Read a range. Raises BadRequestError."""
    try:
        found = TimeRange(float(since), float(until), int(points))
    except ValueError as error:
        raise BadRequestError("from, to and points must be numbers") from error
    if not (math.isfinite(found.since) and 0 < found.seconds <= MOST_SECONDS):
        raise BadRequestError(
            f"from and to: must be at most {MOST_SECONDS // 86_400} days apart, and in"
            " order"
        )
    if not 2 <= found.points <= MOST_POINTS:
        raise BadRequestError(f"points: must be 2 to {MOST_POINTS}, got {points!r}")
    return found


def substitutes(
    variables: Mapping[str, BoardVariable],
    choice: Choice,
    known: Callable[[BoardVariable, str], bool],
) -> dict[str, str]:
    """Return what stands for each variable of a board. Raises BadRequestError.

    known: whether Prometheus has a value of a variable
    """
    unknown = sorted(set(choice) - set(variables))
    if unknown:
        raise BadRequestError(f"var-{unknown[0][:50]}: not a variable of this board")
    return {
        name: _substitute(variable, choice.get(name, ()), known)
        for name, variable in variables.items()
    }


def _substitute(
    variable: BoardVariable,
    values: Sequence[str],
    known: Callable[[BoardVariable, str], bool],
) -> str:
    if not values or EVERYTHING in values:
        return variable.every
    if variable.typed:
        if len(values) > 1 or not NUMBER.fullmatch(values[0]):
            raise BadRequestError(
                f"var-{variable.name}: must be one number, got {values[0][:50]!r}"
            )
        return values[0]
    if len(values) > MOST_VALUES:
        raise BadRequestError(f"var-{variable.name}: more than {MOST_VALUES} values")
    for value in values:
        if not known(variable, value):
            raise BadRequestError(f"var-{variable.name}: no {value[:100]!r} there")
    return _alternatives(values)


def _alternatives(values: Sequence[str]) -> str:
    """Match exactly these, inside a double-quoted string of PromQL."""
    escaped = [
        _SPECIAL.sub(r"\\\1", each)
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace("\n", "\\n")
        for each in values
    ]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def filled(query: BoardQuery, over: TimeRange, values: Mapping[str, str]) -> str:
    """Return PromQL that can be asked."""
    scrape = query.min_step or SCRAPE_SECONDS
    step = over.step(query)
    all_values = {
        **values,
        "__interval": f"{step}s",
        "__rate_interval": f"{math.ceil(max(step + scrape, 4 * scrape))}s",
        "__range": f"{math.ceil(over.seconds)}s",
    }
    return _VARIABLE.sub(lambda f: all_values.get(f[1] or f[2], f[0]), query.expr)
