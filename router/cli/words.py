"""Figures of a job in words, for one line of a terminal; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.cli.outcome import OVER

Shown = Mapping[str, Any]


def over(progress: Shown) -> int:
    """Count the items that have ended."""
    items = progress["items"]
    return int(items["done"] + items["failed"] + items["cancelled"])


def span(seconds: float | None) -> str:
    """Write `1:05` or `2:03:04`; a dash where it is not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float | None) -> str:
    """Write a rate with as many digits as it deserves."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def pace(progress: Shown) -> str:
    """Say how fast it goes, and how it goes."""
    words = [
        f"{number(progress['rate'])} items/s",
        f"ETA {span(progress['eta_seconds'])}",
        f"{number(progress['tokens_per_second'])} tokens/s",
    ]
    words += [f"{progress['items']['failed']} failed"]
    merges = progress["merges"]
    if merges["total"]:
        words.append(f"merges {merges['done']}/{merges['total']}")
    for name in ("retries", "revoked"):
        if progress[name]:
            words.append(f"{progress[name]} {name}")
    return " · ".join(words)


def whereabouts(state: Shown) -> str:
    """Say which nodes work on it, or why none does."""
    nodes = state["progress"]["nodes"]
    if nodes:
        return "on " + ", ".join(f"{node} {count}" for node, count in nodes.items())
    if state.get("why_idle"):
        return f"idle: {state['why_idle']}"
    if state["state"] == "validating":
        return f"reading the file: {state['progress']['rows_read']:,} rows"
    return ""


def line(state: Shown) -> str:
    """Say all of it in one line, for logs."""
    progress = state["progress"]
    total = progress["items"]["total"]
    words = f"{state['state']} {over(progress):,}/{total:,} · {pace(progress)}"
    where = whereabouts(state)
    return f"{words} · {where}" if where else words


def ending(job: Shown) -> str:
    """Say how a job went."""
    progress = job["progress"]
    items = progress["items"]
    words = (
        f"{job['id']} {job['state']}: {items['done']:,} of {items['total']:,} items"
        f" done, {items['failed']:,} failed"
    )
    if progress["seconds"] is not None:
        words += f", in {span(progress['seconds'])}"
    faults = [fault["message"] for fault in job["faults"][:3]]
    reported = [*faults, *(f"note: {note}" for note in job.get("notes", ()))]
    return "\n".join([words, *(f"  {each}" for each in reported)])


def reading(shown: Shown) -> str:
    """Say how a file was read, what was guessed, and which columns it has."""
    found = shown["reading"]
    parts = [shown["format"], found.get("encoding")]
    if "delimiter" in found:
        parts.append(f"delimiter: {found['delimiter']}")
        parts.append("names in the first line" if found["header"] else "no names")
    head = ", ".join(part for part in parts if part)
    lines = [f"{head}; columns: {', '.join(shown['columns'])}"]
    return "\n".join([*lines, *(f"  note: {note}" for note in shown["notes"])])


def state_of(job: Shown) -> str:
    """Give a job's state, or that it is kept from running."""
    if job["state"] in OVER or not job["paused"]:
        return str(job["state"])
    return "parked" if job.get("parked") else "paused"
