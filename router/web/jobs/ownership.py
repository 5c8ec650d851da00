"""Whose jobs and files are whose: others hear that there is no such thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from flask import Blueprint, request

from router.errors import NotFoundError
from router.jobs.model import StoredFile
from router.jobs.service import JobService
from router.web.authentication import principal_of


def _account_of_upload(service: JobService, upload: str) -> str:
    return service.parted.get(upload).account


# What a part of a path names, to the account that it belongs to.
OWNED: Mapping[str, Callable[[JobService, str], str]] = {
    "job": lambda service, job: service.account_of(job),
    "file": lambda service, file: service.file(file).account,
    "upload": _account_of_upload,
}


def add_ownership(routes: Blueprint, service: Callable[[], JobService]) -> None:
    """Keep others away from what the path of each of the routes names."""
    routes.before_request(partial(_check, service))


def _check(jobs: Callable[[], JobService]) -> None:
    who = principal_of(request.environ)
    if who.sees_all:
        return
    for kind, name in (request.view_args or {}).items():
        account_of = OWNED.get(kind)
        if account_of is not None and not who.sees(account_of(jobs(), name)):
            raise NotFoundError(f"no {kind} {name!r}")


def own_file(service: JobService, file: str) -> StoredFile:
    """Return a file that a request names in its body. Raises NotFoundError."""
    found = service.file(file)
    if not principal_of(request.environ).sees(found.account):
        raise NotFoundError(f"no file {file!r}")
    return found


def own_account() -> str | None:
    """Return whose things a list may show; None: everybody's."""
    who = principal_of(request.environ)
    return None if who.sees_all else who.owner
