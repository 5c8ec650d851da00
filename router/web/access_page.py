"""The table of docs/access.md, made from the routes themselves.

`python -m router.web.access_page` writes it; a test says when it is not current.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, cast

from werkzeug.routing import Map

from router.config.reference import between
from router.text.api_key import Scope
from router.web.access import (
    Area,
    Foreign,
    RouteAccess,
    access,
    area_of,
    foreign,
    scopes_of,
)
from router.web.app import routed
from router.web.openapi import routes_of
from router.web.routes import WebParts, blueprints

PAGE = "docs/access.md"

_BEGIN = "<!-- routes: written by `python -m router.web.access_page` -->\n"
_END = "<!-- routes: end -->\n"
_HEAD = (
    "| route | scope of its key | of another owner | this machine | another machine,"
    " or a proxy | page on localhost | other page |\n|---|---|---|---|---|---|---|"
)
TITLES = {
    Area.INFERENCE: "Inference, as Ollama and OpenAI have it",
    Area.JOBS: "Jobs, their files and results",
    Area.ADMIN: "Operating the fleet",
    Area.WEBHOOK: "Alertmanager's webhook",
    Area.TELEMETRY: "Health and metrics",
}


_Terms = tuple[str, RouteAccess, frozenset[Scope] | None, Foreign]


@dataclass(frozen=True, slots=True)
class AccessRow:
    """A route with the methods that all have the same access."""

    path: str
    methods: tuple[str, ...]
    access: RouteAccess
    scopes: frozenset[Scope] | None
    foreign: Foreign

    @property
    def area(self) -> Area:
        return area_of(self.path)


def rows() -> tuple[AccessRow, ...]:
    """Give every route that does something, by area and path."""
    found: defaultdict[_Terms, set[str]] = defaultdict(set)
    for path, method in served():
        scopes = scopes_of(path, method)
        found[path, access(path, method), scopes, foreign(path, method)].add(method)
    made = [
        AccessRow(path, tuple(sorted(methods)), to, scopes, of_others)
        for (path, to, scopes, of_others), methods in found.items()
    ]
    areas = list(Area)
    return tuple(
        sorted(made, key=lambda row: (areas.index(row.area), row.path, row.methods))
    )


def served() -> Iterator[tuple[str, str]]:
    """Yield each path with each of its methods."""
    return routes_of(_rules())


def _rules() -> Map:
    """Build the routes over nothing: none of them is asked."""
    nothing = cast("Any", None)
    parts = WebParts(
        **{name: nothing for name in WebParts.__slots__ if name != "jobs"},
        jobs=cast("Any", _Jobs()),
    )
    return routed(blueprints(parts), lambda: None).url_map


class _Jobs:
    limits = None


def table() -> str:
    """Write every route as a row, under its area."""
    lines: list[str] = []
    area = None
    for row in rows():
        if row.area is not area:
            area = row.area
            lines += ["", f"### {TITLES[area]}", "", _HEAD]
        route = f"`{', '.join(row.methods)} {row.path}`"
        scopes = " or ".join(sorted(row.scopes)) if row.scopes else "no key needed"
        cells = [route, scopes, row.foreign, *astuple(row.access)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:]) + "\n"


def written_into(page: str) -> str:
    """Return the page with current tables between its marks."""
    return between(page, _BEGIN, _END, table())


def main() -> None:
    page = Path(PAGE)
    page.write_text(written_into(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
