"""Jobs and items for the tests of the store."""

from __future__ import annotations

from router.jobs.model import (
    CHAT,
    Format,
    ItemFault,
    ItemKind,
    ItemResult,
    Job,
    JobSpec,
    JobState,
    NewItem,
)
from router.jobs.store import items, jobs

JOB = "batch_1"
MODEL = "m:latest"
PLACE = (JOB, ItemKind.ROW, MODEL)


def a_job(job=JOB, created=100.0, state=JobState.IN_PROGRESS, **terms):
    spec = JobSpec(CHAT, "file-1", Format.OPENAI, **terms)
    return Job(job, spec, state, created)


def item(n, *, weight=1.0, wave=0, kind=ItemKind.ROW, fault=None):
    return NewItem(
        key=str(n),
        kind=kind,
        index=n,
        custom_id=f"c{n}",
        endpoint=CHAT,
        model=MODEL,
        body=b"" if fault else b'{"n":%d}' % n,
        weight=weight,
        wave=wave,
        fault=fault,
    )


def result(n, node="one", error=None, kind=ItemKind.ROW, text=None):
    return ItemResult(
        key=str(n),
        kind=kind,
        index=n,
        custom_id=f"c{n}",
        status=200,
        body=b"{}",
        text=f"text {n}" if text is None else text,
        node=node,
        error=error,
        generated_tokens=7,
        prompt_tokens=3,
    )


def filled(database, count=10, job=None):
    """Put a job with so many items into the database."""
    made = job or a_job()
    database.write(lambda c: jobs.add(c, made, "me", 1e12))
    some = [item(n, weight=float(n)) for n in range(count)]
    database.write(lambda c: items.add(c, made.id, some, 1.0))
    return made


BAD = ItemFault("invalid_line", "line 3: no JSON", 3, 1)
