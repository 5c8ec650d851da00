"""`/v1/uploads` as OpenAI has it: a large file in parts, put together at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from router.errors import BodyTooLargeError
from router.jobs.input.upload_parts import COMPLETED, MOST_PARTS, PartedUpload
from router.jobs.input.uploads import PendingUpload
from router.jobs.service import JobService
from router.web.authentication import principal_of
from router.web.jobs.errors import answer
from router.web.jobs.fields import FieldError, RequestFields, read_object
from router.web.jobs.kept_files import (
    check_expiry,
    check_purpose,
    keep_file,
    read_json_body,
    show_file,
)
from router.web.jobs.turns import Turns
from router.web.jobs.upload import UploadLimits, read_form

_MOST_PART_BYTES = 64 * 1024 * 1024
_MOST_NAME_CHARACTERS = 255

Limits = Callable[[], UploadLimits]


def add_uploads(
    routes: Blueprint, service: JobService, limits: Limits, turns: Turns
) -> None:
    """Add the routes of the table at the end."""
    for rule, view in _ROUTES:
        name = f"upload_{view.__name__.strip('_')}"
        counted = turns.for_request(view) if view is _add else view
        call = partial(counted, service, limits)
        routes.add_url_rule(f"/uploads{rule}", name, call, methods=["POST"])


def _create(service: JobService, limits: Limits) -> Response:
    asked = read_object(read_json_body())
    name = asked.required("filename").replace("\\", "/").rpartition("/")[2]
    purpose = check_purpose(asked.required("purpose"))
    size = asked.number("bytes", 1, 2**50)
    asked.text("mime_type")
    expires = _expires(asked)
    asked.nothing_else()
    if size is None:
        raise FieldError("bytes", "is required")
    most = limits().most_bytes
    if size > most:
        raise BodyTooLargeError(f"bytes: over {most} bytes (jobs.max_file_bytes)")
    name = name[:_MOST_NAME_CHARACTERS] or "file"
    account = principal_of(request.environ).owner
    made = service.parted.create(name, purpose, size, expires, account)
    return answer(_show(service, made))


def _expires(asked: RequestFields) -> float | None:
    given = asked.object("expires_after")
    if not given:
        return None
    seconds = given.get("seconds")
    return check_expiry(str(given.get("anchor", "created_at")), str(seconds))


def _add(service: JobService, limits: Limits, upload: str) -> Response:
    service.parted.pending(upload)
    most = min(_MOST_PART_BYTES, limits().most_bytes)
    terms = replace(limits(), most_bytes=most, part="data")
    form = read_form(request.environ, terms, service.uploads.draft)
    try:
        if form.draft is None or form.draft.size == 0:
            raise FieldError("data", "is required")
        part = service.parted.add(upload, form.draft)
    finally:
        form.discard()
    return answer(
        {
            "id": part,
            "object": "upload.part",
            "created_at": int(time.time()),
            "upload_id": upload,
        }
    )


def _complete(service: JobService, _limits: Limits, upload: str) -> Response:
    asked = read_object(read_json_body())
    parts = asked.texts("part_ids", MOST_PARTS)
    md5 = asked.text("md5").lower()
    asked.nothing_else()

    def keep(found: PartedUpload, draft: PendingUpload) -> str:
        kept = keep_file(service, draft, found.filename, found.purpose, found.expires)
        return kept.id

    return answer(_show(service, service.parted.complete(upload, parts, md5, keep)))


def _cancel(service: JobService, _limits: Limits, upload: str) -> Response:
    return answer(_show(service, service.parted.cancel(upload)))


def _show(service: JobService, upload: PartedUpload) -> dict[str, Any]:
    done = upload.status == COMPLETED
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.size,
        "created_at": int(upload.created),
        "expires_at": int(upload.over_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": show_file(service.file(upload.file)) if done else None,
    }


_ROUTES: Iterable[tuple[str, Callable[..., Response]]] = (
    ("", _create),
    ("/<upload>/parts", _add),
    ("/<upload>/complete", _complete),
    ("/<upload>/cancel", _cancel),
)
