"""The values that a board's variables may take, as Prometheus has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from router.errors import PrometheusError
from router.web.boards.catalogue import BoardVariable

# A value that appears is let in at the next look; looks are not made more often.
_FRESH_SECONDS = 2.0
# Nodes of last month have boards, too.
_BACK_SECONDS = 32 * 86_400


class Samples(Protocol):
    """What the boards need of Prometheus; raises PrometheusError."""

    def query(self, expression: str, params: dict[str, str]) -> bytes:
        """Answer as Prometheus does."""

    def label_values(
        self, label: str, series: str, since: float, until: float
    ) -> bytes:
        """Answer as Prometheus does."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    values: frozenset[str]


class KnownValues:
    """Remembers the last look for each series and label, of which boards have few."""

    def __init__(
        self,
        samples: Samples,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._samples = samples
        self._monotonic = monotonic
        self._wall = wall
        self._looks: dict[tuple[str, str], _Look] = {}

    def has(self, variable: BoardVariable, series: str, value: str) -> bool:
        """Say whether a value exists. Raises PrometheusError.

        series: the variable's own, with "All" for the variables in it
        """
        now, key = self._monotonic(), (series, variable.label)
        look = self._looks.get(key)
        if look is not None and value in look.values:
            return True
        if look is None or now - look.at > _FRESH_SECONDS:
            until = self._wall()
            answer = self._samples.label_values(
                variable.label, series, until - _BACK_SECONDS, until
            )
            look = self._looks[key] = _Look(now, frozenset(_read(answer)))
        return value in look.values


def _read(answer: bytes) -> Sequence[str]:
    try:
        return [str(each) for each in orjson.loads(answer)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise PrometheusError(f"unexpected answer {answer[:200]!r}") from error
