"""Writes the table of settings in docs/configuration.md from their declarations.

Run `python -m router.config.reference`; a test fails while the table is not current.
"""

from __future__ import annotations

from pathlib import Path

from router.config.load import settings
from router.config.section import needs_restart

PAGE = "docs/configuration.md"

_BEGIN = "<!-- settings: written by `python -m router.config.reference` -->\n"
_END = "<!-- settings: end -->\n"


def table() -> str:
    """Return the table: a row for each setting."""
    rows = [
        "| setting | default | meaning | restart |",
        "|---|---|---|---|",
    ]
    for section, name, field in settings():
        default = "none" if field.default is None else f"`{field.default}`"
        restart = "yes" if needs_restart(field) else ""
        meaning = field.description
        rows.append(f"| `{section}.{name}` | {default} | {meaning} | {restart} |")
    return "\n".join(rows) + "\n"


def written_into(page: str) -> str:
    """Return the page with the current table between its markers."""
    return between(page, _BEGIN, _END, table())


def between(page: str, begin: str, end: str, text: str) -> str:
    """Return a page with a text between two of its markers."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> None:
    page = Path(PAGE)
    page.write_text(written_into(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
