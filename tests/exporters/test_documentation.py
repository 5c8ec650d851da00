"""The page on Ollama names what exists, and all of what the collector exports."""

from __future__ import annotations

import re

from tests.exporters.conftest import GOLDEN
from tests.harness.process import ROOT
from tests.prometheus.metric_names import exported

PAGE = (ROOT / "docs/exporters-ollama.md").read_text()


def test_what_the_page_names_is_exported() -> None:
    """Names of ours; a histogram is exported in parts."""
    named = set(re.findall(r"inferops_\w+", PAGE))
    parts = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    assert named <= exported() | parts


def test_what_the_collector_exports_is_on_the_page() -> None:
    """A series that nobody can look up is of no use."""
    text = (GOLDEN / "ollama.prom").read_text()
    for name in re.findall(r"# TYPE (\w+)", text):
        assert name in PAGE, name
