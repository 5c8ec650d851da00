"""Which area a path belongs to: what pages may ask, and who may, is said by area."""

from __future__ import annotations

from enum import StrEnum

from router.relay.protocols import ROUTES

__all__ = ["Area", "area_of"]


class Area(StrEnum):
    """The router's routes, by what they give to whoever may ask them."""

    INFERENCE = "inference"
    JOBS = "jobs"
    ADMIN = "admin"
    WEBHOOK = "webhook"
    TELEMETRY = "telemetry"


_PREFIXES = (
    ("/admin", Area.ADMIN),
    ("/webhook", Area.WEBHOOK),
    ("/batches", Area.JOBS),
    ("/jobs", Area.JOBS),
    ("/v1/batches", Area.JOBS),
    ("/v1/files", Area.JOBS),
    ("/v1/uploads", Area.JOBS),
    ("/v1/models", Area.INFERENCE),
    ("/api", Area.INFERENCE),
)


def area_of(path: str) -> Area:
    """Return a path's area; what is none of the known ones is shut to most."""
    if path in ROUTES:
        return Area.INFERENCE
    path = "/" + path.lstrip("/")
    if path == "/" or path in ROUTES:
        return Area.INFERENCE
    for prefix, area in _PREFIXES:
        if path == prefix or path.startswith(f"{prefix}/"):
            return area
    return Area.TELEMETRY
