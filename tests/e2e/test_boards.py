"""Every query of every board, on every Prometheus, over a fleet that saw it all."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from grafana import promql, states
from tests.harness import board_page, pictures
from tests.harness import grafana as boards
from tests.harness.browser import chromium
from tests.harness.demo import MODELS, Demo, demo, play
from tests.harness.process import ROOT

pytestmark = pytest.mark.e2e

# What no demonstration can bring about, by the query's board, title and legend.
EXCUSED = {
    ("*", "annotation Upgrades", ""): "no Ollama is upgraded",
    ("gpu.json", "Driver calls that failed", ""): "no driver call fails",
    ("history.json", "Load in a week, at this pace", ""): "no day is recorded yet",
    ("gpu.json", "GPUs that are seen", "{{node}} {{uuid}} instances"): "no MIG card",
}
# `make boards` writes the one, `make previews` the others.
PAGE = os.environ.get("INFEROPS_BOARDS_PAGE")
PICTURES = os.environ.get("INFEROPS_BOARDS_PICTURES")
WIDTH = 1280


class Asked(NamedTuple):
    """One query of a board, variables filled in."""

    board: str
    title: str
    legend: str
    expr: str

    @property
    def excuse(self) -> str:
        keys = [
            (b, self.title, v) for b in (self.board, "*") for v in (self.legend, "")
        ]
        return next((EXCUSED[key] for key in keys if key in EXCUSED), "")


@dataclass
class Verdict:
    """Series that a query gave on one Prometheus; an error instead, where it failed."""

    series: int = 0
    error: str = ""


def everything(node: str = ".+", model: str = "") -> list[Asked]:
    return [
        Asked(board, title, legend, expr)
        for board, dashboard in boards.dashboards().items()
        for title, legend, expr in boards.legended(
            dashboard,
            rate_interval="10s",
            interval="10s",
            span="2m",
            node=node,
            model=model,
        )
    ]


def ask(session: requests.Session, url: str, began: float, expr: str) -> Verdict:
    """Ask over the whole time of the demonstration."""
    end = time.time()
    answer = session.post(
        f"{url}/api/v1/query_range",
        data={"query": expr, "start": began, "end": end, "step": "1"},
        timeout=20,
    ).json()
    if answer["status"] != "success":
        return Verdict(error=answer["error"])
    return Verdict(series=len(answer["data"]["result"]))


def judged(made: Demo, deadline: float) -> dict[tuple[str, Asked], Verdict]:
    """Ask everything, what is on several boards once; the empty ones until then."""
    known: dict[tuple[str, str], Verdict] = {}
    needed = {each.expr: each.excuse for each in everything()}
    waiting = [(version, expr) for version in made.watchers for expr in needed]
    with requests.Session() as session:
        while waiting and (not known or time.monotonic() < deadline):
            for version, expr in waiting:
                url = made.watchers[version]
                known[version, expr] = ask(session, url, made.began, expr)
            waiting = [
                key for key in waiting if not (known[key].series or needed[key[1]])
            ]
    return {
        (version, each): known[version, each.expr]
        for version in made.watchers
        for each in everything()
    }


def unanswered(made: Demo) -> set[tuple[str, str, str]]:
    """Board, title, legend of what is empty where one node and model are chosen.

    What the choice filters must answer for one of two nodes, each chosen alone.
    """
    url = next(iter(made.watchers.values()))
    everywhere = {each.expr for each in everything()}
    waiting = {(each.board, each.title, each.legend) for each in everything()}
    with requests.Session() as session:
        for node in ("one", "two"):
            for each in everything(node, MODELS[0]):
                key = (each.board, each.title, each.legend)
                if key in waiting and (
                    each.expr in everywhere
                    or each.excuse
                    or ask(session, url, made.began, each.expr).series
                ):
                    waiting.discard(key)
    return waiting


# One test for both: the demonstration takes half a minute.
@pytest.mark.long
def test_every_query_of_every_board_answers(tmp_path):
    """On each Prometheus, none is empty and none is refused; of one node neither."""
    with demo(tmp_path) as made:
        play(made)
        verdicts = judged(made, time.monotonic() + 30)
        if PAGE:
            text = page(verdicts, seen(made))
            (ROOT / PAGE).write_text(text, encoding="utf-8")
        wrong = [
            f"{version}: {each.board}: {each.title}: {verdict.error}\n{each.expr}"
            for (version, each), verdict in verdicts.items()
            if verdict.error or not (verdict.series or each.excuse)
        ]
        assert not wrong, "\n".join(wrong)
        assert unanswered(made) == set()
        assert undrawn(made, tmp_path) == {}


def undrawn(made: Demo, folder: Path) -> dict[str, list[str]]:
    """What the router's own pages do not draw of the boards, as a browser has it."""
    found = {}
    with chromium(made.product.url, (WIDTH, 900), folder) as page:
        for dashboard in boards.dashboards().values():
            board_page.open_board(page, dashboard["uid"], made.began)
            wrong = board_page.faults(page)
            # A card's full uuid, which a transformation is to shorten.
            wrong += [each for each in board_page.legends(page) if "GPU-" in each]
            if wrong:
                found[dashboard["uid"]] = wrong
    return found


@pytest.mark.timeout(900)
@pytest.mark.skipif(not PICTURES, reason="`make previews` takes them")
def test_pictures(tmp_path):
    """A picture of every board; a person looks at each."""
    assert PICTURES is not None
    folder = ROOT / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    with demo(tmp_path, with_month=True) as made:
        play(made)
        board_page.until_items_done(made, 60)
        with chromium(made.product.url, (WIDTH, 900), tmp_path) as page:
            for name, dashboard in boards.dashboards().items():
                began = made.began - (30 * 86_400 if name == "history.json" else 5)
                board_page.open_board(page, dashboard["uid"], began)
                assert board_page.faults(page) == []
                path = folder / Path(name).with_suffix(".png")
                path.write_bytes(pictures.picture(page))


def test_excuses_are_true():
    """Each names a query that there is."""
    asked = everything()
    for board, title, legend in EXCUSED:
        assert any(
            each.title == title
            and board in {"*", each.board}
            and legend in {"", each.legend}
            for each in asked
        )


def seen(made: Demo) -> list[str]:
    """The states in which nodes were, in words."""
    url = next(iter(made.watchers.values()))
    answer = requests.post(
        f"{url}/api/v1/query_range",
        data={
            "query": boards.fill(promql.STATES, {"node": ".+"}),
            "start": made.began,
            "end": time.time(),
            "step": "0.5",
        },
        timeout=20,
    ).json()
    values = {
        int(value)
        for series in answer["data"]["result"]
        for _, value in series["values"]
    }
    return [states.NODE_WORDS[bits][0] for bits in sorted(values)]


def page(verdicts: dict[tuple[str, Asked], Verdict], words: list[str]) -> str:
    """The table of panels by Prometheus: queries that answered, of all."""
    versions = sorted({version for version, _ in verdicts})
    panels = dict.fromkeys((each.board, each.title) for _, each in verdicts)
    head = ["board", "panel", "queries", *(f"answered, {v}" for v in versions), ""]
    rows = [head, ["---"] * len(head)]
    for board, title in panels:
        cells, excuses, count = [], set(), 0
        for version in versions:
            found = {
                each: verdict
                for (where, each), verdict in verdicts.items()
                if (where, each.board, each.title) == (version, board, title)
            }
            count = len(found)
            cells.append(str(sum(1 for v in found.values() if v.series)))
            excuses |= {e.excuse for e, v in found.items() if not v.series}
        name = Path(board).stem
        rows.append([name, title, str(count), *cells, "; ".join(sorted(excuses))])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    asked = len({each for _, each in verdicts})
    empty = len({each for (_, each), verdict in verdicts.items() if not verdict.series})
    lines = (
        f"{asked} queries on each Prometheus, {empty} of them without an answer.",
        f"States of nodes that were seen: {'; '.join(words)}.",
    )
    return "\n".join([HEAD, *lines, "", table, ""])


HEAD = """\
# Every panel, asked

Written by `make boards`: a simulated fleet, watched by real Prometheuses, under load,
with model loads, failures, continuations, a drain, a return, a restart, and a job
(`tests/harness/demo.py`). Each query was asked over the time of the demonstration, all
variables at "All", and again with one node and one model chosen. What answered nothing
has its reason in the last column.
"""
