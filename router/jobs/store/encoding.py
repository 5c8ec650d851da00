"""Converts rows of the tables to values and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import Row

from router.jobs.model import (
    Counts,
    Item,
    ItemFault,
    ItemKind,
    ItemResult,
    Job,
    JobSpec,
    JobState,
    NewItem,
    StoredFile,
    Tallies,
)
from router.jobs.spec import read_spec


def dumped(value: object) -> str:
    return orjson.dumps(value).decode()


def read_job(row: Row[Any], spec: JobSpec | None = None) -> Job:
    """Make a job of a row; `spec`: its terms if the row lacks them."""
    counts = orjson.loads(row.counts) if row.counts else None
    return Job(
        id=row.id,
        spec=read_spec(row.spec) if spec is None else spec,
        state=JobState(row.state),
        created=row.created,
        openai=bool(row.openai),
        paused=bool(row.paused),
        rows=row.rows,
        rows_read=row.rows_read,
        marks=orjson.loads(row.marks),
        faults=tuple(ItemFault(**fault) for fault in orjson.loads(row.faults)),
        tallies=Tallies(**orjson.loads(row.tallies)),
        counts=(Counts(**counts[0]), Counts(**counts[1])) if counts else None,
        tokens=(counts[2][0], counts[2][1]) if counts else (0, 0),
        notes=tuple(orjson.loads(row.notes)),
        parked=row.parked,
        starts=row.starts,
        account=row.account,
        principal=row.principal,
    )


def read_item(row: Row[Any]) -> Item:
    return Item(
        id=row.id,
        job=row.job,
        key=row.key,
        kind=ItemKind(row.kind),
        index=row.row,
        custom_id=row.custom_id,
        endpoint=row.endpoint,
        model=row.model,
        size=row.size,
        weight=-row.rank,
        tries=row.tries,
        wave=row.wave,
        place=row.place,
    )


def item_fields(job: str, item: NewItem, state: str) -> dict[str, Any]:
    return {
        "job": job,
        "key": item.key,
        "kind": item.kind.value,
        "row": item.index,
        "custom_id": item.custom_id,
        "endpoint": item.endpoint,
        "model": item.model,
        "body": item.body,
        "size": item.size or len(item.body),
        "wave": item.wave,
        "rank": -item.weight,
        "state": state,
        "tries": 0,
        "place": item.place,
    }


def result_fields(job: str, result: ItemResult) -> dict[str, Any]:
    return {
        "job": job,
        "key": result.key,
        "kind": result.kind.value,
        "row": result.index,
        "custom_id": result.custom_id,
        "state": result.state.value,
        "status": result.status,
        "body": result.body,
        "text": _storable(result.text),
        "node": result.node,
        "error": dumped(asdict(result.error)) if result.error else None,
        "request_id": result.request_id,
        "prompt_tokens": result.prompt_tokens,
        "generated_tokens": result.generated_tokens,
        "seconds": result.seconds,
        "ended": result.ended,
    }


def _storable(text: str) -> str:
    """Replace zero bytes, which PostgreSQL refuses in texts; the body keeps them."""
    return text.replace("\x00", "\ufffd")


def read_result(row: Row[Any]) -> ItemResult:
    return ItemResult(
        key=row.key,
        kind=ItemKind(row.kind),
        index=row.row,
        custom_id=row.custom_id,
        status=row.status,
        body=row.body,
        text=row.text,
        node=row.node,
        error=ItemFault(**orjson.loads(row.error)) if row.error else None,
        request_id=row.request_id,
        prompt_tokens=row.prompt_tokens,
        generated_tokens=row.generated_tokens,
        seconds=row.seconds,
        ended=row.ended,
    )


def read_upload(row: Row[Any]) -> StoredFile:
    return StoredFile(**row._mapping)  # noqa: SLF001 - SQLAlchemy's own public name
