"""Grafana's grid of 24 columns: sections of bands of panels, without gaps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from grafana.panels import Json

COLUMNS = 24


class Band:
    """Panels side by side; of equal width where `widths` does not say."""

    def __init__(self, height: int, *panels: Json, widths: Sequence[int] = ()) -> None:
        self.height = height
        self.panels = panels
        self.widths = widths

    def place(self, y: int) -> Iterator[Json]:
        count = len(self.panels)
        widths = self.widths or (COLUMNS // count,) * count
        if sum(widths) != COLUMNS:
            raise ValueError(
                f"widths must sum to {COLUMNS}, got {widths!r} for the band of "
                f"{self.panels[0]['title']!r}"
            )
        lefts = itertools.accumulate(widths[:-1], initial=0)
        for panel, x, width in zip(self.panels, lefts, widths, strict=True):
            yield panel | {"gridPos": {"h": self.height, "w": width, "x": x, "y": y}}


class Section:
    """A titled row of the dashboard and the bands below it."""

    def __init__(self, title: str, *bands: Band) -> None:
        self.title = title
        self.bands = bands

    @property
    def height(self) -> int:
        return 1 + sum(band.height for band in self.bands)

    def place(self, y: int) -> Iterator[Json]:
        yield {
            "type": "row",
            "title": self.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
        }
        heights = (band.height for band in self.bands)
        tops = itertools.accumulate(heights, initial=y + 1)
        for band, top in zip(self.bands, tops, strict=False):
            yield from band.place(top)


def layout(sections: Iterable[Section]) -> list[Json]:
    """Place all sections one below the other, and number the panels from 1."""
    placed: list[Json] = []
    y = 0
    for section in sections:
        placed.extend(section.place(y))
        y += section.height
    return [panel | {"id": number} for number, panel in enumerate(placed, start=1)]
