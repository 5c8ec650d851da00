"""Write docs/api.md, every route and what it does: `python -m router.web.api_page`.

The routes are those that are served; a test fails while the page is not current.
"""

from __future__ import annotations

from pathlib import Path

from router.relay.protocols import ROUTES
from router.web.access import Area, area_of
from router.web.access_page import TITLES, served
from router.web.openapi import words_of
from router.web.operations import OPERATIONS

PAGE = "docs/api.md"
_HEAD = """\
# HTTP API

Written by `python -m router.web.api_page` from the routes that are served.
[Access](access.md) says who may use which; [clients](clients.md) says what inference
routes accept, [jobs](jobs-api.md) what `/v1/jobs` and OpenAI's batch routes accept;
`/batches`, as `/v1/jobs` was called before 0.2, works until then. Errors
have the form of the route's protocol: Ollama's, OpenAI's or Anthropic's error object.
For programs `GET /openapi.json` has the same with parameters, bodies and status codes.
"""


def page() -> str:
    """Return the page: a table of routes for each area."""
    parts = [_HEAD]
    for area in Area:
        routes = sorted(
            (path, method) for path, method in served() if area_of(path) is area
        )
        lines = [f"## {TITLES[area]}", "", "| route | what it does |", "|---|---|"]
        lines += [
            f"| `{method} {path}` | {_words(path, method)} |" for path, method in routes
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _words(path: str, method: str) -> str:
    route = ROUTES.get(path)
    if route is None:
        return OPERATIONS[f"{method} {path}"].words
    return words_of(route)


def main() -> None:
    Path(PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
