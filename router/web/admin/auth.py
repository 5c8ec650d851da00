"""Who may change something under `/admin/`, and what a change says."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from flask import request

from router.errors import BadRequestError, ForbiddenError, UnauthorizedError
from router.web.jobs.fields import parsed


def allow_change(token: str | None) -> None:
    """Let the request pass, or raise why it may not change anything."""
    if request.mimetype != "application/json":
        raise BadRequestError("a change must be sent as application/json")
    if token is None:
        if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:  # noqa: S104 - compared, not bound
            raise ForbiddenError(
                "changes need a token (admin.token_file), or come from this machine"
            )
        return
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise UnauthorizedError("the bearer token is missing or wrong")


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
            raise BadRequestError(f"{name}: unknown field, known: {', '.join(types)}")
        if not isinstance(value, types[name]):
            kind = types[name].__name__
            raise BadRequestError(f"{name}: must be of type {kind}, got {value!r}")
    return found
