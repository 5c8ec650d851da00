"""The committed boards, read once: what each may ask Prometheus, and nothing else.

Pure, but for `read`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from router.errors import NotFoundError
from router.text.duration import parse_duration

_VALUES = re.compile(r"label_values\((?P<series>.+), *(?P<label>\w+)\)", re.DOTALL)
NUMBER = re.compile(r"\d{1,6}(\.\d{1,6})?")  # that a variable may be


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """PromQL with variables.

    min_step:    in seconds, 0 where the query sets none
    most_points: that its panel takes, 0 where it sets no limit
    """

    expr: str
    instant: bool
    min_step: float = 0
    most_points: int = 0


@dataclass(frozen=True, slots=True)
class BoardVariable:
    """A variable that queries use.

    series, label: its values are those of the label; empty for a typed number
    every:         what stands for it where nothing is chosen
    """

    name: str
    every: str
    series: str = ""
    label: str = ""

    @property
    def typed(self) -> bool:
        return not self.series


@dataclass(frozen=True, slots=True)
class ShownBoard:
    """A board; `text` is the committed JSON as bytes.

    panels: queries by panel id and target; marks: those of the annotations, in order
    """

    uid: str
    title: str
    about: str
    text: bytes
    panels: Mapping[tuple[int, str], BoardQuery]
    marks: tuple[BoardQuery, ...]
    variables: Mapping[str, BoardVariable]


@dataclass(frozen=True, slots=True)
class BoardCatalogue:
    """Boards by uid, in the order of their files."""

    boards: Mapping[str, ShownBoard] = field(default_factory=dict)

    def board(self, uid: str) -> ShownBoard:
        """Return a board; raises NotFoundError."""
        found = self.boards.get(uid)
        if found is None:
            raise NotFoundError(f"no board {uid[:100]!r}")
        return found


def read(folder: Path) -> BoardCatalogue:
    """Read every board of a folder.

    Raises OSError, and ValueError for a file that is not a board.
    """
    texts = [path.read_bytes() for path in sorted(folder.glob("*.json"))]
    return BoardCatalogue({each.uid: each for each in map(board, texts)})


def board(text: bytes) -> ShownBoard:
    """Read one board. Raises ValueError."""
    try:
        content = orjson.loads(text)
        return ShownBoard(
            content["uid"],
            content["title"],
            content.get("description", ""),
            text,
            panels=dict(_queries(content["panels"])),
            marks=tuple(_marks(content["annotations"]["list"])),
            variables=dict(_variables(content["templating"]["list"])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a board: {error!r}") from error


def _queries(
    panels: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[int, str], BoardQuery]]:
    for panel in panels:
        yield from _queries(panel.get("panels", ()))  # of a row that is folded
        for target in panel.get("targets", ()):
            asked = BoardQuery(
                target["expr"],
                bool(target.get("instant")),
                _min_step(target),
                int(panel.get("maxDataPoints") or 0),
            )
            yield (panel["id"], target["refId"]), asked


def _marks(annotations: Iterable[Mapping[str, Any]]) -> Iterator[BoardQuery]:
    for each in annotations:
        target = each["target"]
        yield BoardQuery(target["expr"], instant=False, min_step=_min_step(target))


def _min_step(target: Mapping[str, Any]) -> float:
    return parse_duration(target.get("interval", "")) or 0


def _variables(
    listed: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[str, BoardVariable]]:
    """Yield those that queries may use: labels' values, and numbers."""
    for each in listed:
        name = each["name"]
        found = _VALUES.fullmatch(each.get("definition", ""))
        if found:
            series, label = found["series"], found["label"]
            yield name, BoardVariable(name, each["allValue"], series, label)
        elif each["type"] == "textbox" and NUMBER.fullmatch(each["query"]):
            yield name, BoardVariable(name, each["query"])
