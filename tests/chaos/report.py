"""What the cases came to, as a table for people and for docs/chaos.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN = "<!-- written by `make chaos` -->\n"
END = "<!-- end -->\n"


@dataclass(frozen=True)
class Row:
    """One case; times in seconds, None where nothing was to be waited for."""

    case: str
    requests: int
    failed: int
    failures: tuple[str, ...]
    react: float | None
    recover: float | None
    note: str


def table(rows: Sequence[Row]) -> str:
    """Give a Markdown table, one line a case."""
    head = (
        "what went wrong",
        "requests",
        "failed",
        "acted on",
        "healthy again",
        "seen",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [
        f"| {r.case} | {r.requests} | {r.failed} | {_seconds(r.react)} |"
        f" {_seconds(r.recover)} | {r.note} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def write_into(page: Path, tables: str) -> None:
    """Put the tables between the page's marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", encoding="utf-8")


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
