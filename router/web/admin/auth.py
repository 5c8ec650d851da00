"""Who may change something under `/admin/`, and what a change says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import request

from router.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
)
from router.runtime.threads import DISK
from router.text.api_key import Scope
from router.web.authentication import principal_of
from router.web.bearer import is_bearer
from router.web.jobs.fields import parsed
from router.web.local_user import local_peer

# Every path here can be written in this way. Whatever else leads to the same route
# (`//admin`, `/%61dmin`, `/admin;x`, `http://host/admin`) would pass a proxy's rule.
_SPELLING = re.compile(
    r"/(boards|usage|(admin|boards)(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+)"
)
_MOST_CHARACTERS = 500


def check_spelling(raw_uri: str) -> None:
    """Answer an admin route by its one spelling only. Raises NotFoundError."""
    path = raw_uri.partition("?")[0]
    if not _SPELLING.fullmatch(path):
        raise NotFoundError("an admin route is asked by its plain path only")


def allow_change(token: str | None, trusts: Callable[[Mapping[str, Any]], bool]) -> str:
    """Return the principal that makes a change, or raise why it may not make any.

    trusts: whether a request can only come from this machine; asked without a token
    """
    if request.mimetype != "application/json":
        raise BadRequestError("a change must be sent as application/json")
    who = principal_of(request.environ)
    if not who.id.startswith("client:") and who.may(frozenset({Scope.ADMIN})):
        return who.label
    if token is not None:
        if not is_bearer(request.headers.get("Authorization", ""), token):
            raise UnauthorizedError("the bearer token is missing or wrong")
        return "token:admin"
    if not trusts(request.environ):
        raise ForbiddenError(
            "changes need a token (admin.token_file), or come from this machine and"
            " through no proxy"
        )
    environ = request.environ  # there is no request in another thread
    peer = DISK(lambda: local_peer(environ))
    if not peer.trusted:
        raise ForbiddenError(
            "changes from this machine without a token (admin.token_file) are for the"
            f" router's user and root, got {peer.name or 'a closed connection'!r}"
        )
    return f"local:{peer.name}" if peer.name else "local"


def fields(types: Mapping[str, type]) -> dict[str, Any]:
    """Read the JSON object of a change; unknown and ill-typed fields are told."""
    body = request.get_data()
    if not body:
        return {}
    found = parsed(body)
    if not isinstance(found, dict):
        raise BadRequestError("the body must be a JSON object")
    for name, value in found.items():
        if name not in types:
            raise BadRequestError(
                f"{name[:100]}: unknown field, known: {', '.join(types)}"
            )
        _check(name, value, types[name])
    return found


def _check(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequestError(
            f"{name}: must be of type {kind.__name__}, got {repr(value)[:100]}"
        )
    if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
        raise BadRequestError(
            f"{name}: must have at most {_MOST_CHARACTERS} characters, got {len(value)}"
        )


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Raise BadRequestError for a number that is out of its range."""
    if not least <= value <= most:
        raise BadRequestError(f"{name}: must be {least} to {most}, got {value}")
