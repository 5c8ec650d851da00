"""What falls silent when a source of telemetry is missing, by reading the expressions.

An expression lives while one side of each `or` in it does, and all of the rest. What
stands right of `unless` only takes away.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tests.prometheus.metric_names import NAME, WORDS, without_noise

_TOKEN = re.compile(rf"{NAME.pattern}|[(),]")


@dataclass(slots=True)
class _Level:
    """What is known of the expression between two parentheses, so far."""

    whole: bool = True  # the arguments before this one
    lived: bool = False  # an earlier side of `or`
    side: bool = True
    taking_away: bool = False

    def take(self, *, lives: bool) -> None:
        if not self.taking_away:
            self.side = self.side and lives

    def close_side(self) -> None:
        self.lived = self.lived or self.side
        self.side, self.taking_away = True, False

    def close_argument(self) -> None:
        self.close_side()
        self.whole = self.whole and self.lived
        self.lived = False


def lives(expr: str, exported: Collection[str]) -> bool:
    """Whether an expression can still give anything, of these names alone."""
    return _level(_tokens(expr), exported)


def _tokens(expr: str) -> Iterator[str]:
    for found in _TOKEN.finditer(without_noise(expr)):
        yield found[0]


def _level(tokens: Iterator[str], exported: Collection[str]) -> bool:
    level = _Level()
    for token in tokens:
        word = token.lower()
        if token == ")":
            break
        if token == "(":
            level.take(lives=_level(tokens, exported))
        elif token == ",":
            level.close_argument()
        elif word == "or":
            level.close_side()
        elif word in ("unless", "and"):
            level.taking_away = word == "unless"
        elif word not in WORDS:
            level.take(lives=token in exported)
    level.close_argument()
    return level.whole


def living(records: Mapping[str, str], exported: Collection[str]) -> set[str]:
    """The records that are left, those included that read other records.

    records: expression by name
    """
    left: set[str] = set()
    while True:
        names = left.union(exported)
        more = {name for name, expr in records.items() if lives(expr, names)}
        if more == left:
            return left
        left = more
