"""`POST /admin/nodes`: a node that joins is written into the inventory."""

from __future__ import annotations

from typing import Any

from flask import Response, g, jsonify

from router.config.additions import inventory_entry
from router.errors import BadRequestError, ConfigError, ConflictError
from router.web.admin.auth import fields
from router.web.admin.context import AdminContext

_FIELDS = {"name": str, "address": str, "labels": dict}


def add_node(parts: AdminContext) -> Response:
    """Add an entry, once; a node that is there already as it is asked for is fine."""
    given = fields(_FIELDS)
    for name in ("name", "address"):
        if not given.get(name):
            raise BadRequestError(f"{name}: is required")
    entry = inventory_entry(given["name"], given["address"], _labels(given))
    g.audit = {"node": given["name"]}
    try:
        added = parts.add_entry(entry)
    except ConfigError as error:
        raise ConflictError(str(error)) from error
    except OSError as error:
        raise ConflictError(
            f"the inventory cannot be written by the router ({error.strerror}):"
            f" add this entry to it yourself: {entry!r}"
        ) from error
    return jsonify(name=given["name"], added=added, entry=entry)


def _labels(given: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, Any] = given.get("labels", {})
    for name, value in labels.items():
        if not isinstance(value, str) or len(value) > 500 or len(name) > 100:
            raise BadRequestError(f"labels: {name[:100]}: must be a short text")
    return labels
