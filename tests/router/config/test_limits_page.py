"""docs/limits.md knows every limit that can be set."""

from __future__ import annotations

import re

from router.config.load import settings
from tests.harness.process import ROOT

_IS_LIMIT = re.compile(r"timeout|stall|^max_|grace|lease")


def test_every_limit_is_explained():
    """What it measures, and what happens: a new one belongs into the table."""
    page = (ROOT / "docs" / "limits.md").read_text()
    limits = [name for _, name, _ in settings() if _IS_LIMIT.search(name)]
    assert [] == [name for name in limits if name not in page]
