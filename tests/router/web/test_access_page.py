"""docs/access.md: what is open to whom, as the routes are."""

from __future__ import annotations

from pathlib import Path

from router.web import access_page
from router.web.access import Area, Grant

ROOT = Path(__file__).parents[3]


def test_page_is_current():
    """The tables are the routes'; the generator is named to whoever changes one."""
    page = (ROOT / access_page.PAGE).read_text()
    assert access_page.written_into(page) == page, (
        "run: python -m router.web.access_page"
    )


def test_every_kind_of_route_is_there():
    """Nothing is left out: each area has its routes."""
    paths = {row.path for row in access_page.rows()}
    assert {row.area for row in access_page.rows()} == set(Area)
    assert {
        "/",
        "/api/chat",
        "/v1/models",
        "/v1/jobs/<job>/results",
        "/jobs",
        "/v1/files",
        "/admin/nodes/<name>/cordon",
        "/webhook/alertmanager",
        "/metrics",
        "/readyz",
    } <= paths


def test_no_change_of_the_fleet_is_open_elsewhere():
    """Whatever route is added under /admin: a change needs the token."""
    changes = [
        row
        for row in access_page.rows()
        if row.area is Area.ADMIN and row.methods != ("GET",)
    ]
    assert changes
    assert {row.access.elsewhere for row in changes} == {Grant.TOKEN}


def test_named_tests_exist():
    """Each test that the page names is there."""
    page = (ROOT / access_page.PAGE).read_text()
    named = {
        part
        for line in page.splitlines()
        if line.startswith("| ")
        for part in line.split("`")
        if part.startswith("tests/")
    }
    assert len(named) > 10
    assert [each for each in named if not (ROOT / each).exists()] == []
