"""The progress of a job in figures; pure."""

from __future__ import annotations

import time
from typing import Any

from router.jobs.execution.active import ActiveJob
from router.jobs.model import Counts, ItemKind, Job


def shown(job: Job, active: ActiveJob | None) -> dict[str, Any]:
    """Return the object `progress` of `/v1/jobs`; `active`: None if the job is over."""
    counts = job.counts or (active.counts if active else (Counts(), Counts()))
    rates = active.rates.per_second(time.monotonic()) if active else None
    attempts = active.in_flight() if active else []
    tallies = job.tallies + active.unsaved if active else job.tallies
    if counts[0].total == 0:
        counts = (Counts(waiting=job.rows_read), counts[1])  # it is still read
    left = counts[0].total - counts[0].over
    tokens = active.tokens if active and not job.counts else job.tokens
    merging = len(
        {f.held.item.id for f in attempts if f.held.item.kind is ItemKind.MERGE}
    )
    running = len({f.held.item.id for f in attempts}) - merging
    return {
        "items": _counts(counts[0], running),
        "merges": _counts(counts[1], merging),
        "rows_read": job.rows_read,
        "rows": job.rows,
        "rate": round(rates[0], 3) if rates else None,
        "eta_seconds": round(left / rates[0], 1) if rates and rates[0] else None,
        "tokens_per_second": round(rates[1], 1) if rates else None,
        "prompt_tokens": tokens[0],
        "generated_tokens": tokens[1],
        "retries": tallies.retries,
        "revoked": tallies.revoked,
        "copies": tallies.copies,
        "wasted_tokens": tallies.wasted_tokens,
        "continued": tallies.continued,
        "reread_tokens": tallies.reread_tokens,
        "nodes": active.nodes() if active else {},
        "seconds": _seconds(job),
    }


def _counts(counts: Counts, running: int) -> dict[str, int]:
    return {
        "total": counts.total,
        "waiting": max(0, counts.waiting + counts.leased - running),
        "running": running,
        "done": counts.done,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def _seconds(job: Job) -> float | None:
    """Return for how long it has been running, or ran."""
    began = job.marks.get("in_progress")
    if began is None:
        return None
    ended = job.marks.get(job.state.value) if job.state.over else None
    return round((ended or time.time()) - began, 3)
