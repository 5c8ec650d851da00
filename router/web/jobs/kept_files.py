"""Files as the routes of jobs share them: kept, checked, shown."""

from __future__ import annotations

import time
from typing import Any

from flask import g, request

from router.errors import BadRequestError
from router.jobs.input.uploads import PendingUpload, new_file_id
from router.jobs.model import StoredFile
from router.jobs.service import JobService
from router.web.authentication import principal_of
from router.web.jobs.fields import FieldError
from router.web.jobs.upload import Form

PURPOSES = ("batch", "dataset")
_MONTH_SECONDS = 30 * 86_400


def keep(
    service: JobService, form: Form, purpose: str, expires: float | None
) -> StoredFile:
    """Put a form's file in its place on the disk; the database is told by who asked.

    Raises FieldError, DiskFullError, UnavailableError.
    """
    return _placed(service, checked_draft(form), form.filename, purpose, expires)


def checked_draft(form: Form) -> PendingUpload:
    """Return the form's file. Raises FieldError."""
    if form.draft is None:
        raise FieldError("file", "is required")
    if form.draft.size == 0:
        raise FieldError("file", "must not be empty")
    return form.draft


def _placed(
    service: JobService,
    draft: PendingUpload,
    name: str,
    purpose: str,
    expires: float | None,
) -> StoredFile:
    draft.seal()
    upload = StoredFile(
        id=new_file_id(),
        name=name,
        purpose=purpose,
        size=draft.size,
        created=time.time(),
        expires=expires,
        account=principal_of(request.environ).owner,
    )
    draft.keep(service.uploads.path(upload.id))
    g.audit = {"file": upload.id, "bytes": upload.size}
    return upload


def keep_file(
    service: JobService,
    draft: PendingUpload,
    name: str,
    purpose: str,
    expires: float | None,
) -> StoredFile:
    """Put a file in its place and tell the database; nothing is left if that fails.

    Raises DiskFullError, UnavailableError, StoreError.
    """
    upload = _placed(service, draft, name, purpose, expires)
    try:
        service.add_file(upload)
    except BaseException:
        service.uploads.remove(upload.id)
        raise
    return upload


def check_purpose(purpose: str) -> str:
    """Raises FieldError."""
    if purpose not in PURPOSES:
        known = " or ".join(PURPOSES)
        raise FieldError("purpose", f"must be {known}, got {purpose[:40]!r}")
    return purpose


def check_expiry(anchor: str, text: str) -> float:
    """Return when a file expires, in unix seconds. Raises FieldError."""
    if anchor != "created_at":
        raise FieldError("expires_after[anchor]", "must be 'created_at'")
    if not text.isdecimal() or not 3600 <= int(text) <= _MONTH_SECONDS:
        what = f"must be 3600 to {_MONTH_SECONDS}, got {text[:20]!r}"
        raise FieldError("expires_after[seconds]", what)
    return time.time() + int(text)


def show_file(upload: StoredFile) -> dict[str, Any]:
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
