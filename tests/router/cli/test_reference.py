"""docs/cli.md says what the commands say."""

from __future__ import annotations

from router.cli import reference
from tests.harness.process import ROOT


def test_page_is_current():
    """Whoever changes a command hears how the page is written."""
    page = (ROOT / reference.PAGE).read_text()
    assert reference.page() == page, "run: python -m router.cli.reference"


def test_every_command_is_there():
    """Nested commands too, but none that is hidden."""
    page = reference.page()
    assert "\n### inferops nodes\n" in page
    assert "\n#### inferops jobs run\n" in page
    assert "inferops batch" not in page
