"""Stores keys made by API or command line, in one SQLite file.

The file is created with the first key.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from router.access.keys import ApiKey, KeySecret, KeySource
from router.access.limits import KeyLimits
from router.errors import StateError
from router.runtime.sqlite_file import SqliteFile
from router.text.api_key import Scope

FILE = "keys.sqlite"
_SCHEMA = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL,
    revoked REAL, content TEXT NOT NULL
) STRICT
"""


class KeyStore:
    """One file in `folder`; a call returns when its change is on the disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._database: SqliteFile | None = None

    def exists(self) -> bool:
        """Say whether a key was ever stored."""
        return self._path.exists()

    def load(self) -> tuple[ApiKey, ...]:
        """Return every key, also revoked ones. Raises StateError."""
        if not self.exists():
            return ()
        rows = self._opened().read(
            "SELECT id, name, created, revoked, content FROM keys ORDER BY created, id"
        )
        try:
            return tuple(_key(*row) for row in rows)
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self._path}: not a key: {error}") from error

    def save(self, keys: Iterable[ApiKey]) -> None:
        """Insert or replace. Raises StateError."""
        rows = [
            (key.id, key.name, key.created or 0.0, key.revoked, _content(key))
            for key in keys
        ]

        def write(database: sqlite3.Connection) -> None:
            database.executemany(
                "INSERT OR REPLACE INTO keys (id, name, created, revoked, content)"
                " VALUES (?,?,?,?,?)",
                rows,
            )

        self._opened().write(write)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _opened(self) -> SqliteFile:
        if self._database is None:
            self._database = SqliteFile(self._path, (_TABLE,), _SCHEMA)
        return self._database


def _content(key: ApiKey) -> str:
    return json.dumps(
        {
            "secrets": [[each.digest, each.shown, each.until] for each in key.secrets],
            "owner": key.owner,
            "tags": key.tags,
            "scopes": sorted(key.scopes),
            "models": key.models,
            "networks": [str(each) for each in key.networks],
            "expires": key.expires,
            "user_header": key.user_header,
            "limits": key.limits.given(),
        }
    )


def _key(
    key: str, name: str, created: float, revoked: float | None, content: str
) -> ApiKey:
    found: dict[str, Any] = json.loads(content)
    return ApiKey(
        id=key,
        name=name,
        secrets=tuple(KeySecret(*each) for each in found["secrets"]),
        source=KeySource.STORE,
        owner=found["owner"],
        tags=tuple(found["tags"]),
        scopes=frozenset(Scope(each) for each in found["scopes"]),
        models=tuple(found["models"]),
        networks=tuple(ip_network(each) for each in found["networks"]),
        created=created,
        expires=found["expires"],
        revoked=revoked,
        limits=KeyLimits(**found.get("limits", {})),
        user_header=found.get("user_header", ""),
    )
