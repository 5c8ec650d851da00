"""What an API key looks like, what it is for, and what is kept of it.

A key has 256 random bits: nobody guesses them, so one SHA-256 is enough to keep a key
that a copy of the file does not give away, and a look-up by it tells no timing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from enum import StrEnum

PREFIX = "sk-inferops-"
_BYTES = 32
_SHOWN = len(PREFIX) + 6
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a key is for; a route asks for one of them."""

    INFERENCE = "inference"
    JOBS = "jobs"
    ADMIN_READ = "admin-read"
    ADMIN = "admin"  # all of the others with it
    METRICS = "metrics"
    WEBHOOK = "webhook"


def new_secret() -> str:
    """Make a key, as a client sends it."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def digest_of(secret: str) -> str:
    """Return what is kept of a key: its SHA-256, in hex."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def shown(secret: str) -> str:
    """Return as much of a key as may be seen, by which people tell them apart."""
    return f"{secret[:_SHOWN]}…"
