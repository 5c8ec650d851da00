"""The documentation holds together: links, navigation, decisions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.process import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ELSEWHERE = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "site/README.md"]
LINKING = [*PAGES, *(ROOT / name for name in ELSEWHERE)]
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]*)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", each).strip().lower())
        for each in headings
    }


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Each relative link names a file that exists, each anchor a heading."""
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(link)
    assert [] == broken


def test_navigation_names_pages_that_exist():
    """The site's navigation leads to no missing page."""
    text = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = re.findall(r"[\w/-]+\.md", text)
    assert len(named) > 15
    assert [] == [each for each in named if not (DOCS / each).exists()]


DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decision_has_its_form(path):
    """A number, a title, and the three parts in their order."""
    text = path.read_text()
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert ["Context", "Decision", "Consequences"] == re.findall(
        r"^## (.+)$", text, re.MULTILINE
    )


def test_decisions_have_numbers_of_their_own():
    """Two people may take the same number at one time: the later takes the next."""
    numbers = [path.name[:4] for path in DECISIONS]
    assert sorted(set(numbers)) == numbers
    assert len(numbers) >= 55
