"""`/boards`: Grafana's boards, drawn by the browser for whoever has no Grafana yet.

The browser names a board, a panel and a target, and never sends PromQL: what can be
asked is what is committed. Reading them is like reading under `/admin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, render_template, request

from router.errors import NotFoundError, PrometheusError
from router.web.boards.catalogue import (
    BoardCatalogue,
    BoardQuery,
    BoardVariable,
    ShownBoard,
)
from router.web.boards.known import KnownValues, Samples
from router.web.boards.questions import (
    TimeRange,
    filled,
    substitutes,
    time_range,
)
from router.web.jobs.turns import Turns
from router.web.pages import guarded

__all__ = ["BoardContext", "boards_blueprint"]

# Fewer than Prometheus answers at a time (20), so that control is never behind them.
MOST_QUERIES = 12
_STEP = "X-InferOps-Step"  # seconds between points, without which gaps are unknown


@dataclass(frozen=True, slots=True)
class BoardContext:
    """What the pages ask, and whom."""

    catalogue: BoardCatalogue
    samples: Samples
    known: KnownValues


def boards_blueprint(parts: BoardContext) -> Blueprint:
    """Build the routes from the tables at the end."""
    routes = Blueprint(
        "boards",
        __name__,
        url_prefix="/boards",
        template_folder="templates",
        static_folder="assets",
        static_url_path="/assets",
    )
    turns = Turns(MOST_QUERIES, "queries of boards")
    for rule, view in _PAGES:
        routes.add_url_rule(rule, view.__name__.strip("_"), partial(view, parts))
    for rule, view in _QUERIES:
        counted = turns.for_request(partial(view, parts))
        routes.add_url_rule(rule, view.__name__.strip("_"), counted)
    routes.register_error_handler(PrometheusError, _silent)
    routes.after_request(guarded)
    return routes


def _list(parts: BoardContext) -> str:
    return render_template("boards.html", boards=_listed(parts))


def _board(parts: BoardContext, uid: str) -> str:
    board = parts.catalogue.board(uid)
    return render_template("board.html", board=board, boards=_listed(parts))


def _listed(parts: BoardContext) -> list[ShownBoard]:
    """Give the overview first."""
    boards = parts.catalogue.boards.values()
    return sorted(boards, key=lambda each: each.title != "Overview")


def _json(parts: BoardContext, uid: str) -> Response:
    return _plain(parts.catalogue.board(uid).text)


def _panel(parts: BoardContext, uid: str, panel: int, target: str) -> Response:
    board = parts.catalogue.board(uid)
    query = board.panels.get((panel, target))
    if query is None:
        raise NotFoundError(f"no target {target[:20]!r} in panel {panel} of {uid}")
    return _asked(parts, board, query)


def _mark(parts: BoardContext, uid: str, number: int) -> Response:
    board = parts.catalogue.board(uid)
    if number >= len(board.marks):
        raise NotFoundError(f"no mark {number} on {uid}")
    return _asked(parts, board, board.marks[number])


def _variable(parts: BoardContext, uid: str, name: str) -> Response:
    board, over = parts.catalogue.board(uid), _over()
    variable = board.variables.get(name)
    if variable is None or variable.typed:
        raise NotFoundError(f"no variable {name[:50]!r} with values on {uid}")
    series = filled(_series(variable), over, _chosen(parts, board))
    found = parts.samples.label_values(variable.label, series, over.since, over.until)
    return _plain(found)


_PAGES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("", _list),
    ("/<uid>", _board),
    ("/<uid>/board.json", _json),
)
_QUERIES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("/<uid>/panels/<int:panel>/<target>", _panel),
    ("/<uid>/marks/<int:number>", _mark),
    ("/<uid>/variables/<name>", _variable),
)


def _asked(parts: BoardContext, board: ShownBoard, query: BoardQuery) -> Response:
    over = _over()
    expression = filled(query, over, _chosen(parts, board))
    params = over.params(query)
    answer = _plain(parts.samples.query(expression, params))
    if "step" in params:
        answer.headers[_STEP] = params["step"]
    return answer


def _chosen(parts: BoardContext, board: ShownBoard) -> dict[str, str]:
    choice = {
        name.removeprefix("var-"): values
        for name, values in request.args.lists()
        if name.startswith("var-")
    }

    def known(variable: BoardVariable, value: str) -> bool:
        """Look among all values, not only those that the other choices leave."""
        everything = {each.name: each.every for each in board.variables.values()}
        series = filled(_series(variable), _over(), everything)
        return parts.known.has(variable, series, value)

    return substitutes(board.variables, choice, known)


def _series(variable: BoardVariable) -> BoardQuery:
    return BoardQuery(variable.series, instant=True)


def _over() -> TimeRange:
    asked = request.args
    return time_range(
        asked.get("from", ""), asked.get("to", ""), asked.get("points", "2")
    )


def _plain(content: bytes) -> Response:
    answer = Response(content, content_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _silent(error: PrometheusError) -> Response:
    answer = _plain(orjson.dumps({"error": f"Prometheus: {error}"}))
    answer.status_code = 503
    return answer
