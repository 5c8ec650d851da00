"""Bearer tokens: reads one from a request, compares it in constant time."""

from __future__ import annotations

import hmac


def is_bearer(authorization: str, token: str) -> bool:
    """Say whether an `Authorization` header carries exactly this token."""
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and same_secret(given.strip(), token)


def same_secret(given: str, token: str) -> bool:
    """Compare in constant time; nothing is the same as an empty token."""
    return hmac.compare_digest(given.encode(), token.encode()) and bool(token)
