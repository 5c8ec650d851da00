"""Bearer tokens: reads one from a request, compares it in constant time."""

from __future__ import annotations

import hmac

__all__ = ["is_bearer"]


def is_bearer(authorization: str, token: str) -> bool:
    """Say whether an `Authorization` header carries exactly this token."""
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    return scheme.lower() == "bearer" and bool(token) and same
