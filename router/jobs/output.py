"""Renders a job's results for download, line by line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import Connection

from router.jobs.model import ItemResult, ItemState
from router.jobs.store import results
from router.jobs.store.database import JobDatabase

_PAGE = 500

ANSWERED = (ItemState.DONE,)
NOT_ANSWERED = (ItemState.FAILED, ItemState.CANCELLED)
EVERYTHING = (*ANSWERED, *NOT_ANSWERED)

Render = Callable[[str, ItemResult], bytes]


def openai_line(job: str, result: ItemResult) -> bytes:
    """Render a line of OpenAI's output and error files; the reply as it came."""
    request = f"batch_req_{job.removeprefix('batch_')}_{result.key}"
    head = orjson.dumps({"id": request, "custom_id": result.custom_id})[:-1]
    if not result.status:
        error = None
        if result.error:
            error = {"code": result.error.code, "message": result.error.message}
        return head + b',"response":null,"error":' + orjson.dumps(error) + b"}\n"
    response = {"status_code": result.status, "request_id": result.request_id}
    return b"".join(
        (
            head,
            b',"response":',
            orjson.dumps(response)[:-1],
            b',"body":',
            _one_line(result.body),
            b'},"error":null}\n',
        )
    )


def _one_line(body: bytes) -> bytes:
    """Return JSON on one line; other bytes become a JSON string."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return orjson.dumps(body.decode(errors="replace"))
    return body.strip() if b"\n" not in body.strip() else orjson.dumps(value)


def result_fields(result: ItemResult) -> dict[str, Any]:
    """Show a result in the words of `/v1/jobs`."""
    return {
        "index": result.index,
        "key": result.key,
        "custom_id": result.custom_id or None,
        "status": result.state.value,
        "text": result.text,
        "node": result.node or None,
        "prompt_tokens": result.prompt_tokens,
        "generated_tokens": result.generated_tokens,
        "seconds": round(result.seconds, 3),
        "error": asdict(result.error) if result.error else None,
    }


def result_line(_job: str, result: ItemResult) -> bytes:
    return orjson.dumps(result_fields(result)) + b"\n"


def pages(
    database: JobDatabase,
    job: str,
    states: Collection[ItemState],
    after: results.ResultCursor | None = None,
    *,
    limit: int | None = None,
    size: int = _PAGE,
) -> Iterator[list[ItemResult]]:
    """Yield results in input order, in pages of that size. Raises StoreError."""
    place: results.ResultCursor | None = after or results.ResultCursor()
    left = limit
    while place is not None and left != 0:
        count = size if left is None else min(size, left)

        def read(
            connection: Connection, at: results.ResultCursor = place, count: int = count
        ) -> tuple[list[ItemResult], results.ResultCursor | None]:
            return results.in_order(connection, job, states, at, count)

        page, place = database.read(read)
        if page:
            yield page
        if left is not None:
            left -= len(page)


def joined(database: JobDatabase, job: str, separator: str) -> Iterator[bytes]:
    """Yield the answers as one text, joined as the reducer `concat` does."""
    between = ""
    for page in pages(database, job, ANSWERED):
        text = between + separator.join(result.text for result in page)
        yield text.encode(errors="replace")
        between = separator


def rendered(
    database: JobDatabase, job: str, states: Collection[ItemState], render: Render
) -> Iterator[bytes]:
    """Yield the bytes of a file, a page at a time. Raises StoreError."""
    for page in pages(database, job, states):
        yield b"".join(render(job, result) for result in page)
