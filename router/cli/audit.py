"""`inferops audit`: who changed what, and whether the log is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import click

from router.cli.app import Session, command
from router.cli.client import CliError
from router.cli.outcome import Exit
from router.text.audit_chain import ChainError, ChainHead, verify

_PAGE = 1000


@click.group()
def audit() -> None:
    """Show who changed what, and check the log of it."""


@audit.command("list")
@click.option("--actor", help="Such as token:admin or key:NAME.")
@click.option("--action", help="Such as admin.cordon or hold.placed.")
@click.option("--target", help="Such as node:NAME or key:ID.")
@click.option("--since", help="A time in ISO 8601.")
@click.option("--limit", type=int, default=50, show_default=True)
@command
def list_entries(session: Session, **given: Any) -> None:
    """List changes, newest first."""
    found = session.client.get_list(_path({n: v for n, v in given.items() if v}))
    head = ("entry", "time", "actor", "from", "action", "target")
    session.console.table(found, head, map(_row, found))


@audit.command("verify")
@click.option("--head", help="ID:HASH that was noted before: it must still be there.")
@command
def verify_chain(session: Session, head: str | None) -> None:
    """Check every entry of the log; print its head, to be noted elsewhere.

    The hashes are computed here, not by the router.
    """
    noted = _noted(head)
    found = ChainHead()
    try:
        for entries in _pages(session):
            if noted.id and entries[0]["id"] <= noted.id <= entries[-1]["id"]:
                _compare(noted, entries[noted.id - entries[0]["id"]])
            found = verify(entries, found)
        _reached(found, noted)
    except ChainError as error:
        raise CliError(
            f"the audit log was changed: {error}", Exit.INCOMPLETE
        ) from error
    session.console.result(
        {"entries": found.id, "head": str(found)},
        f"{found.id} entries, none changed; head {found}",
    )


def _pages(session: Session) -> Iterator[list[dict[str, Any]]]:
    after = 0
    while entries := session.client.get_list(_path({"after": after, "limit": _PAGE})):
        yield entries
        after = entries[-1]["id"]


def _path(query: dict[str, Any]) -> str:
    return f"/admin/audit?{urlencode(query)}"


def _noted(head: str | None) -> ChainHead:
    if head is None:
        return ChainHead()
    number, _, mark = head.partition(":")
    if not number.isdecimal() or not mark:
        raise CliError(f"--head must be ID:HASH, got {head!r}", Exit.USAGE)
    return ChainHead(int(number), mark)


def _compare(noted: ChainHead, entry: dict[str, Any]) -> None:
    if entry.get("hash") != noted.hash:
        raise ChainError(f"entry {noted.id} has not the hash that was noted")


def _reached(found: ChainHead, noted: ChainHead) -> None:
    if found.id < noted.id:
        raise ChainError(f"the log ends at entry {found.id}, before {noted.id}")


def _row(entry: dict[str, Any]) -> list[str]:
    at = datetime.fromtimestamp(entry["at"], UTC).isoformat(timespec="seconds")
    texts = (entry[name] for name in ("actor", "client", "action", "target"))
    return [str(entry["id"]), at, *texts]


COMMANDS = (audit,)
