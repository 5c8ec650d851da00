"""`/usage` in a real browser: everybody's for an operator, a key's own for the key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.browser import DESKTOP, PHONE, Page, chromium
from tests.harness.keys import bearer, keyed_router, make_key
from tests.harness.poll import until
from tests.harness.router import Router
from tests.harness.simulator import Simulated

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=2000.0),)
MODEL = "llama3.2:3b"


@pytest.fixture(scope="module")
def router(tmp_path_factory) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("usage-page")
    prices = {"USAGE__PRICE_PER_NODE_HOUR": "3600"}
    with keyed_router(folder, NODES, **prices) as router:
        yield router


@pytest.fixture(scope="module")
def keys(router) -> dict[str, str]:
    """Two that ask for something, and one that reads what all did."""
    scopes = {"alice": "inference", "bob": "inference", "boss": "admin-read"}
    made = {
        name: make_key(router, name, scopes=(scope,)) for name, scope in scopes.items()
    }
    for name, count in (("alice", 1), ("bob", 2)):
        body = {"model": MODEL, "prompt": "hi", "options": {"num_predict": 400}}
        for _ in range(count):
            answer = router.post("/api/generate", body, headers=bearer(made[name]))
            assert answer.ok, answer.text
            assert answer.content

    def all_counted() -> bool:
        groups = router.get("/admin/usage", headers=bearer(made["boss"])).json()
        return 2 == sum(each["node_seconds"] > 0.1 for each in groups["usage"])

    until(all_counted, "the ledger knows that all are over")
    return made


def log_in(page: Page, key: str) -> None:
    page.open("/usage")
    page.shown("key").send_keys(key)
    page.css("main button[type=submit]")[0].click()
    page.shown("usage")


def rows(page: Page) -> list[list[str]]:
    """Return the table's texts, its head first and its total last."""
    found: list[list[str]] = page.run(
        "return [...document.querySelectorAll('#usage tr')].map("
        "row => [...row.children].map(cell => cell.innerText.trim()))"
    )
    return found


def test_everybodys(router, keys, tmp_path):
    """By principal with a total; another month has nothing, and says so."""
    with chromium(router.url, DESKTOP, tmp_path) as page:
        log_in(page, keys["boss"])
        head, *groups, total = rows(page)
        assert ["principal", "requests", "failed", "tokens in"] == head[:4]
        counts = {each[0].split()[0]: each[1] for each in (*groups, total)}
        assert {"alice": "1", "bob": "2", "total": "3"} == counts
        assert float(total[-1]) > 0
        if folder := os.environ.get("INFEROPS_PICTURES"):
            page.driver.save_screenshot(str(Path(folder) / "usage.png"))

        page.run("document.getElementById('by').value = 'day'")
        page.css("main button[type=submit]")[0].click()
        page.until(lambda: rows(page)[0][0] == "day", "the table by day")
        assert "by=day" in str(page.by_id("csv").get_attribute("href"))
        page.open("/usage?month=2001-01")
        assert "No requests in 2001-01." == page.text("nothing")
        assert [] == page.nameless()
        assert [] == page.complaints()


def test_a_keys_own(router, keys, tmp_path):
    """By model, on a phone; nothing of anybody else's, as CSV neither."""
    with chromium(router.url, PHONE, tmp_path) as page:
        log_in(page, keys["alice"])
        assert "Usage of alice" == page.css("h1")[0].text
        head, *groups, total = rows(page)
        assert ["model", "1", "1"] == [head[0], groups[0][1], total[1]]
        if folder := os.environ.get("INFEROPS_PICTURES"):
            page.driver.save_screenshot(str(Path(folder) / "phone.png"))
        assert 0 == page.too_wide()
        assert [] == page.complaints()
    table = router.get(
        "/admin/usage?by=principal&format=csv", headers=bearer(keys["alice"])
    )
    lines = table.text.splitlines()
    assert (2, True) == (len(lines), ",alice,1," in lines[1])
    report = router.get("/admin/usage", headers=bearer(keys["alice"])).json()
    assert ([], 0) == (report["nodes"], report["total"]["metered_joules"])
    everybody = router.get("/admin/usage", headers=bearer(keys["boss"])).json()
    others = next(each for each in everybody["usage"] if each["name"] == "bob")
    asked = f"/admin/usage?principal={others['principal']}"
    assert 404 == router.get(asked, headers=bearer(keys["alice"])).status_code


def test_a_faulty_month(router, keys):
    """It is named on a page, and nothing that a link says is on it unescaped."""
    answer = router.get("/usage?month=<b>", headers=bearer(keys["boss"]))
    assert (400, False) == (answer.status_code, "<b>" in answer.text), answer.text
    assert "month: must be such as 2026-11" in answer.text
