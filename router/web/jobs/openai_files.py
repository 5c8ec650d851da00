"""`/v1/files` as OpenAI has it: uploaded to the disk, listed, read, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from flask import Blueprint, Response, request

from router.jobs.output import ANSWERED, NOT_ANSWERED, openai_line, rendered
from router.jobs.service import JobService
from router.web.jobs.errors import add_error_handlers, answer
from router.web.jobs.fields import read_page
from router.web.jobs.kept_files import (
    check_expiry,
    check_purpose,
    checked_draft,
    keep_file,
    show_file,
    show_list,
)
from router.web.jobs.openai_uploads import add_uploads
from router.web.jobs.ownership import add_ownership, own_account
from router.web.jobs.turns import Turns
from router.web.jobs.upload import UploadLimits, read_form

_MOST_FILES = 10_000
_FILES_AT_ONCE = 1_000  # whoever asks for more gets these, and that there are more
_MOST_ANSWERS, _MOST_UPLOADS = 32, 64


def files_blueprint(
    service: JobService, limits: Callable[[], UploadLimits]
) -> Blueprint:
    """Build the routes from the table at the end."""
    routes = Blueprint("files", __name__, url_prefix="/v1")
    answers, uploads = (
        Turns(_MOST_ANSWERS, "downloads"),
        Turns(_MOST_UPLOADS, "uploads"),
    )
    create = partial(uploads.for_request(_create), service, limits)
    routes.add_url_rule("/files", "create", create, methods=["POST"])
    for method, rule, view in _ROUTES:
        name = view.__name__.strip("_")
        counted = answers.for_answer(view) if view in {_list, _content} else view
        call = partial(counted, service)
        routes.add_url_rule(f"/files{rule}", name, call, methods=[method])
    add_uploads(routes, service, limits, uploads)
    add_ownership(routes, lambda: service)
    add_error_handlers(routes)
    return routes


def _create(service: JobService, limits: Callable[[], UploadLimits]) -> Response:
    form = read_form(request.environ, limits(), service.uploads.draft)
    try:
        purpose = check_purpose(form.fields.get("purpose", ""))
        expires = _expires(form.fields)
        draft = checked_draft(form)
        upload = keep_file(service, draft, form.filename, purpose, expires)
    finally:
        form.discard()
    return answer(show_file(upload))


def _expires(fields: dict[str, str]) -> float | None:
    text = fields.get("expires_after[seconds]")
    if text is None:
        return None
    return check_expiry(fields.get("expires_after[anchor]", "created_at"), text)


def _list(service: JobService) -> Response:
    page = read_page(request.args, _MOST_FILES, _MOST_FILES)
    page = replace(page, limit=min(page.limit, _FILES_AT_ONCE))
    purpose = request.args.get("purpose", "")
    found, more = service.files(page, purpose, own_account())
    return answer(show_list([show_file(each) for each in found], more=more))


def _get(service: JobService, file: str) -> Response:
    return answer(show_file(service.file(file)))


def _delete(service: JobService, file: str) -> Response:
    service.remove_file(file)
    return answer({"id": file, "object": "file", "deleted": True})


def _content(service: JobService, file: str) -> Response:
    upload = service.file(file)
    pieces: Iterable[bytes]
    if upload.job:
        states = ANSWERED if upload.purpose == "batch_output" else NOT_ANSWERED
        pieces = rendered(service.database, upload.job, states, openai_line)
    else:
        pieces = service.uploads.pieces(file)
    response = Response(pieces, content_type="application/octet-stream")
    response.headers["Content-Length"] = str(upload.size)
    return response


_ROUTES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("GET", "", _list),
    ("GET", "/<file>", _get),
    ("DELETE", "/<file>", _delete),
    ("GET", "/<file>/content", _content),
)
