"""The router's `/boards` in a browser."""

from __future__ import annotations

import time

from tests.harness.browser import Page
from tests.harness.demo import Demo
from tests.harness.poll import until


def open_board(page: Page, uid: str, since: float, query: str = "") -> None:
    """Open a board from a time on, and wait until every panel is drawn."""
    page.open(
        f"/boards/{uid}?from={since * 1000:.0f}&to={time.time() * 1000:.0f}{query}"
    )
    page.until(lambda: page.run("return document.body.dataset.drawn"), "all is drawn")


def sections(page: Page, titles: list[str]) -> tuple[int, int, int, int]:
    """Say where some rows of panels are that follow each other: a picture's clip."""
    script = """
        const rows = [...document.querySelectorAll('.row')];
        const top = (row) => Math.floor(row.getBoundingClientRect().top + scrollY);
        const first = rows.findIndex((row) => row.innerText === arguments[0][0]);
        const next = rows[first + arguments[0].length];
        const end = next ? top(next) : document.documentElement.scrollHeight;
        return [0, top(rows[first]), innerWidth, end - top(rows[first])];
    """
    left, top, width, height = page.run(script, titles)
    return left, top, width, height


def unable(page: Page) -> list[str]:
    """Say what the page names as what it cannot draw."""
    script = (
        "return [...document.querySelectorAll('.cannot')].map((e) => e.textContent)"
    )
    found: list[str] = page.run(script)
    return found


def faults(page: Page) -> list[str]:
    """Say what a person would see to be wrong: failed queries, too wide, no data."""
    script = (
        "return [...document.querySelectorAll('.fault, .cannot')]"
        ".map((each) => each.textContent).filter((text) => text)"
    )
    found = [*page.run(script), *page.complaints()]
    if page.too_wide() > 0:
        found.append(f"{page.too_wide()} px too wide")
    return found


def legends(page: Page) -> list[str]:
    """Return the names of each chart's lines."""
    script = "return [...document.querySelectorAll('.keys')].map((e) => e.textContent)"
    found: list[str] = page.run(script)
    return found


def until_items_done(made: Demo, items: int) -> None:
    """Let the job of the demonstration go on, now that nobody else asks."""
    done = f'sum(inferops_job_items_ended_total{{state="done"}}) >= {items}'
    until(lambda: made.all_see(done), f"{items} items are done", seconds=60)
