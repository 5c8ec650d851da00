"""Whose process on this machine holds the other end of a connection, as Linux knows it.

Nobody's word is taken for it: the kernel lists each socket with its owner.
"""

from __future__ import annotations

import contextlib
import pwd
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["local_user"]

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


def local_user(
    environ: Mapping[str, Any], tables: Iterable[Path] = _TABLES
) -> str | None:
    """Name the user whose socket sent a request; None where that cannot be told.

    Reads files of the kernel that grow with the connections: not for the event loop.
    """
    try:
        ports = int(environ["REMOTE_PORT"]), int(environ["SERVER_PORT"])
    except (KeyError, ValueError):
        return None
    for table in tables:
        for local, remote, uid in _sockets(table):
            if (local, remote) == ports:
                return _name(uid)
    return None


def _sockets(table: Path) -> Iterator[tuple[int, int, int]]:
    """Yield local port, remote port and owner of each established connection."""
    with contextlib.suppress(OSError), table.open(encoding="ascii") as lines:
        next(lines, None)
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
