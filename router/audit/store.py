"""The audit log on disk; entries can be added, but neither changed nor deleted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.runtime.sqlite_file import SqliteFile
from router.text.audit_chain import ChainHead, canonical_json, link

FILE = "audit.sqlite"
_SCHEMA = 1
_COLUMNS = ("actor", "client", "action", "target")
_TABLES = (
    "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, content TEXT NOT NULL,"
    " hash TEXT NOT NULL, at REAL AS (json_extract(content, '$.at')),"
    + ",".join(f" {c} TEXT AS (json_extract(content, '$.{c}'))" for c in _COLUMNS)
    + ") STRICT",
    "CREATE INDEX IF NOT EXISTS entries_at ON entries (at)",
    *(
        f"CREATE TRIGGER IF NOT EXISTS entries_{act} BEFORE {act} ON entries"
        " BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        for act in ("UPDATE", "DELETE")
    ),
)
_LAST = "SELECT id, hash FROM entries ORDER BY id DESC LIMIT 1"
_INSERT = "INSERT INTO entries (id, content, hash) VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """Filters for entries; empty texts and None match all.

    after: only entries with a larger number, oldest first; None: the newest first
    since, before: unix seconds
    """

    actor: str = ""
    client: str = ""
    action: str = ""
    target: str = ""
    since: float | None = None
    before: float | None = None
    after: int | None = None
    limit: int = 100


class AuditStore:
    """One file in `folder`; every call raises StateError."""

    def __init__(self, folder: Path) -> None:
        # A damaged log is not replaced: that would be a way to get rid of one.
        self._file = SqliteFile(folder / FILE, _TABLES, _SCHEMA)

    def head(self) -> ChainHead:
        rows = self._file.read(_LAST)
        return ChainHead(*rows[0]) if rows else ChainHead()

    def append(self, contents: Sequence[Mapping[str, Any]]) -> ChainHead:
        """Add entries in one transaction; return the new head."""

        def insert(database: sqlite3.Connection) -> ChainHead:
            row = database.execute(_LAST).fetchone()
            head = ChainHead(*row) if row else ChainHead()
            for content in contents:
                numbered = {**content, "id": head.id + 1}
                head = ChainHead(head.id + 1, link(head.hash, numbered))
                text = canonical_json(numbered)
                database.execute(_INSERT, (head.id, text, head.hash))
            return head

        return self._file.write(insert)

    def find(self, search: AuditSearch) -> list[dict[str, Any]]:
        where, values = _conditions(search)
        order = "DESC" if search.after is None else "ASC"
        rows = self._file.read(
            f"SELECT content, hash FROM entries{where}"  # noqa: S608 - fixed texts only
            f" ORDER BY id {order} LIMIT ?",
            [*values, search.limit],
        )
        return [{**json.loads(content), "hash": mark} for content, mark in rows]

    def close(self) -> None:
        self._file.close()


def _conditions(search: AuditSearch) -> tuple[str, list[object]]:
    wanted: list[tuple[str, object]] = [
        *((f"{name} = ?", getattr(search, name) or None) for name in _COLUMNS),
        ("at >= ?", search.since),
        ("at < ?", search.before),
        ("id > ?", search.after),
    ]
    found = [(text, value) for text, value in wanted if value is not None]
    where = " AND ".join(text for text, _ in found)
    return (f" WHERE {where}" if where else ""), [value for _, value in found]
