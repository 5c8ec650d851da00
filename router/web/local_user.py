"""Whose process on this machine holds the other end of a connection, as Linux knows it.

Nobody's word is taken for it: the kernel lists each socket with its owner. It tells the
person at the machine from a proxy there, which runs as a user of its own.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
# Whatever is closing is listed as root's.
_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Peer:
    """The user at the other end; `trusted`: the router's own, or root."""

    name: str
    trusted: bool


NOT_TOLD = Peer("", trusted=True)  # no such table here: nothing speaks against it
_GONE = Peer("", trusted=False)


def local_peer(
    environ: Mapping[str, Any],
    tables: Iterable[Path] = _TABLES,
    own: int | None = None,
) -> Peer:
    """Say who sent a request, which came from loopback.

    Reads files of the kernel that grow with the connections: not for the event loop.
    """
    try:
        ports = int(environ["REMOTE_PORT"]), int(environ["SERVER_PORT"])
    except (KeyError, ValueError):
        return NOT_TOLD
    peer = NOT_TOLD
    for table in tables:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        peer = _GONE
        for local, remote, uid in _sockets(lines):
            if (local, remote) == ports:
                return Peer(
                    _name(uid), uid in {0, os.geteuid() if own is None else own}
                )
    return peer


def _sockets(lines: Iterable[str]) -> Iterator[tuple[int, int, int]]:
    """Yield local port, remote port and owner of each established connection."""
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[3] == _ESTABLISHED:
            yield _port(fields[1]), _port(fields[2]), int(fields[7])


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
