"""docs/api.md lists the routes that are served."""

from __future__ import annotations

from router.web import api_page
from tests.harness.process import ROOT


def test_page_is_current():
    """Whoever changes a route hears how the page is written."""
    page = (ROOT / api_page.PAGE).read_text()
    assert api_page.page() == page, "run: python -m router.web.api_page"
