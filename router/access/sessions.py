"""Sessions of people who logged in with a key; in memory: a restart logs out; pure."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from router.text.api_key import digest_of

SECONDS = 12 * 3600
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class PageSession:
    """The key's id, the token that changes must carry, and the end in unix seconds."""

    key: str
    csrf: str
    until: float


class Sessions:
    """Keeps the newest `most` sessions, by the digest of their cookie."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._known: OrderedDict[str, PageSession] = OrderedDict()

    def open(self, key: str, now: float) -> str:
        """Open a session; return the value of its cookie."""
        token = secrets.token_urlsafe(32)
        csrf = secrets.token_urlsafe(32)
        self._known[digest_of(token)] = PageSession(key, csrf, now + SECONDS)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return token

    def find(self, token: str, now: float) -> PageSession | None:
        digest = digest_of(token)
        found = self._known.get(digest)
        if found is not None and now >= found.until:
            del self._known[digest]
            return None
        return found

    def close(self, token: str) -> None:
        self._known.pop(digest_of(token), None)
