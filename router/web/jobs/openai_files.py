"""`/v1/files` as OpenAI has it: uploaded to the disk, listed, read, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flask import Blueprint, Response, g, request

from router.errors import BadRequestError
from router.jobs.input.uploads import new_file_id
from router.jobs.model import Page, Upload
from router.jobs.output import ANSWERED, NOT_ANSWERED, openai_line, rendered
from router.jobs.service import Batches
from router.web.jobs.errors import add_refusals, answer
from router.web.jobs.fields import FieldError, read_page
from router.web.jobs.upload import Form, UploadLimits, read_form

PURPOSES = ("batch", "dataset")
_MOST_FILES = 10_000
_MONTH_SECONDS = 30 * 86_400


def files_blueprint(batches: Batches, limits: Callable[[], UploadLimits]) -> Blueprint:
    """Build the routes from the table at the end."""
    routes = Blueprint("files", __name__, url_prefix="/v1/files")
    routes.add_url_rule(
        "", "create", partial(_create, batches, limits), methods=["POST"]
    )
    for method, rule, view in _ROUTES:
        name = view.__name__.strip("_")
        routes.add_url_rule(rule, name, partial(view, batches), methods=[method])
    add_refusals(routes)
    return routes


def keep(batches: Batches, form: Form, purpose: str, expires: float | None) -> Upload:
    """Put a form's file in its place on the disk; the database is told by who asked.

    Raises FieldError, DiskFullError, UnavailableError.
    """
    draft = form.draft
    if draft is None:
        raise FieldError("file", "is required")
    if draft.size == 0:
        raise FieldError("file", "must not be empty")
    draft.seal()
    upload = Upload(
        id=new_file_id(),
        name=form.filename,
        purpose=purpose,
        size=draft.size,
        created=time.time(),
        expires=expires,
    )
    draft.keep(batches.uploads.path(upload.id))
    g.audit = {"file": upload.id, "bytes": upload.size}
    return upload


def _create(batches: Batches, limits: Callable[[], UploadLimits]) -> Response:
    form = read_form(request.environ, limits(), batches.uploads.draft)
    try:
        purpose = form.fields.get("purpose", "")
        if purpose not in PURPOSES:
            known = " or ".join(PURPOSES)
            raise FieldError("purpose", f"must be {known}, got {purpose[:40]!r}")
        upload = keep(batches, form, purpose, _expires(form.fields))
    finally:
        form.discard()
    try:
        batches.add_file(upload)
    except BaseException:
        batches.uploads.remove(upload.id)
        raise
    return answer(show_file(upload))


def _expires(fields: dict[str, str]) -> float | None:
    text = fields.get("expires_after[seconds]")
    if text is None:
        return None
    anchor = fields.get("expires_after[anchor]", "created_at")
    if anchor != "created_at":
        raise FieldError("expires_after[anchor]", "must be 'created_at'")
    if not text.isdecimal() or not 3600 <= int(text) <= _MONTH_SECONDS:
        what = f"must be 3600 to {_MONTH_SECONDS}, got {text[:20]!r}"
        raise FieldError("expires_after[seconds]", what)
    return time.time() + int(text)


def _list(batches: Batches) -> Response:
    page: Page = read_page(request.args, _MOST_FILES, _MOST_FILES)
    found, more = batches.files(page, request.args.get("purpose", ""))
    return answer(show_list([show_file(each) for each in found], more=more))


def _get(batches: Batches, file: str) -> Response:
    return answer(show_file(batches.file(file)))


def _delete(batches: Batches, file: str) -> Response:
    batches.remove_file(file)
    return answer({"id": file, "object": "file", "deleted": True})


def _content(batches: Batches, file: str) -> Response:
    upload = batches.file(file)
    pieces: Iterable[bytes]
    if upload.job:
        states = ANSWERED if upload.purpose == "batch_output" else NOT_ANSWERED
        pieces = rendered(batches.database, upload.job, states, openai_line)
    else:
        pieces = batches.uploads.pieces(file)
    response = Response(pieces, content_type="application/octet-stream")
    response.headers["Content-Length"] = str(upload.size)
    return response


def show_file(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "object": "file",
        "bytes": upload.size,
        "created_at": int(upload.created),
        "filename": upload.name,
        "purpose": upload.purpose,
        "status": "processed",
        "status_details": None,
        "expires_at": None if upload.expires is None else int(upload.expires),
    }


def show_list(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """Show a page the way OpenAI's clients turn it."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }


def read_json_body(most: int = 1024 * 1024) -> bytes:
    """Read a small body whole. Raises BadRequestError."""
    data: bytes = request.environ["wsgi.input"].read(most + 1)
    if len(data) > most:
        raise BadRequestError(f"the body is over {most} bytes")
    request.environ["inferops.body_read"] = True
    return data


_ROUTES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("GET", "", _list),
    ("GET", "/<file>", _get),
    ("DELETE", "/<file>", _delete),
    ("GET", "/<file>/content", _content),
)
