"""`/admin/keys`: API keys are listed, made, rotated and revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response, g, jsonify, request

from router.access.file import KeyTerms
from router.access.keys import ApiKey
from router.config import yaml as document
from router.errors import BadRequestError
from router.web.admin.auth import check_range, fields
from router.web.admin.context import AdminContext
from router.web.jobs.fields import parsed

_OVERLAP_SECONDS = 86_400
_LONGEST_OVERLAP_SECONDS = 90 * 86_400


def list_keys(parts: AdminContext) -> Response:
    return jsonify(
        required=parts.keys.required, keys=[show_key(each) for each in parts.keys.ring]
    )


def get_key(parts: AdminContext, key: str) -> Response:
    return jsonify(show_key(parts.keys.get(key)))


def create_key(parts: AdminContext) -> Response:
    content = parsed(request.get_data() or b"{}")
    terms, faults = document.check(KeyTerms, content)
    if terms is None:
        lines = "; ".join(fault.line("key") for fault in faults)
        raise BadRequestError(lines)
    made, secret = parts.keys.create(terms)
    g.audit = {"key": made.id}
    answer = jsonify({**show_key(made), "key": secret})
    answer.status_code = 201
    return answer


def rotate_key(parts: AdminContext, key: str) -> Response:
    overlap = fields({"overlap_seconds": int}).get("overlap_seconds", _OVERLAP_SECONDS)
    check_range("overlap_seconds", overlap, 0, _LONGEST_OVERLAP_SECONDS)
    made, secret = parts.keys.rotate(key, overlap)
    g.audit = {"key": made.id}
    return jsonify({**show_key(made), "key": secret})


def revoke_key(parts: AdminContext, key: str) -> Response:
    made = parts.keys.revoke(key)
    g.audit = {"key": made.id}
    return jsonify(show_key(made))


def show_key(key: ApiKey) -> dict[str, Any]:
    """Show a key's terms, and of its secrets no more than their beginning."""
    now = datetime.now(UTC).timestamp()
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(now),
        "source": key.source,
        "owner": key.owner or None,
        "tags": list(key.tags),
        "scopes": sorted(key.scopes),
        "models": list(key.models),
        "networks": [str(each) for each in key.networks],
        "user_header": key.user_header or None,
        "limits": key.limits.given(),
        "created": _time(key.created),
        "expires": _time(key.expires),
        "revoked": _time(key.revoked),
        "secrets": [
            {"shown": each.shown or None, "until": _time(each.until)}
            for each in key.secrets
        ],
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
