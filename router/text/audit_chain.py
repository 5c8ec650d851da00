"""The hash chain of the audit log, for who writes it and for who checks it; pure.

Each entry's hash covers its content and the hash before it, so that an entry that was
changed, taken out or put in between breaks the chain from there on. Entries that were
cut off at the end leave a whole chain: only a head that was noted elsewhere shows that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

START = "0" * 64  # stands before the first entry


class ChainError(Exception):
    """The chain is broken, and where."""


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last entry: its number, and the hash that covers all before it."""

    id: int = 0
    hash: str = START

    def __str__(self) -> str:
        return f"{self.id}:{self.hash}"


def canonical_json(content: Mapping[str, Any]) -> str:
    """Return the one text of a content."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def link(previous: str, content: Mapping[str, Any]) -> str:
    """Return the hash of an entry, in hex."""
    text = f"{previous}\n{canonical_json(content)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def verify(entries: Iterable[Mapping[str, Any]], head: ChainHead) -> ChainHead:
    """Follow entries that come after `head`, oldest first; return the new head.

    An entry is its content and `hash`. Raises ChainError.
    """
    for entry in entries:
        content = {name: value for name, value in entry.items() if name != "hash"}
        if content.get("id") != head.id + 1:
            raise ChainError(
                f"entry {head.id + 1} is missing: {content.get('id')!r} follows"
            )
        if link(head.hash, content) != entry.get("hash"):
            raise ChainError(
                f"entry {head.id + 1} is not what was written: its hash differs"
            )
        head = ChainHead(head.id + 1, str(entry["hash"]))
    return head
