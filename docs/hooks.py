"""What MkDocs does with the pages of this folder beside rendering them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).parent
# Files of the repository are named, not linked: the site does not hold them.
_OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\((?:\.\./)+(?P<path>[^)#]+)[^)]*\)")
_EVIDENCE = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<path>evidence/[^)]*)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Name files outside the site, and list the decisions on their own page."""
    path = page.file.src_uri
    if not path.startswith("adr/"):
        markdown = _OUTSIDE.sub(_named, markdown)
        markdown = _EVIDENCE.sub(_named, markdown)
    if path == "adr/index.md":
        markdown += "\n" + decisions()
    return markdown


def _named(match: re.Match[str]) -> str:
    text, path = match["text"], match["path"]
    return (
        f"`{path}`"
        if path.rstrip("/").endswith(text.strip("`/"))
        else f"{text} (`{path}`)"
    )


def decisions() -> str:
    """Link every decision by its title."""
    lines = []
    for path in sorted((_DOCS / "adr").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"
