"""Who holds a port that a part is to listen on."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.services import LOOPBACK, Service


@dataclass(frozen=True, slots=True)
class Taken:
    """A port that cannot be had. pid and name: unknown for other users' processes."""

    port: int
    part: str
    pid: int | None = None
    name: str | None = None
    unit: str | None = None

    def line(self) -> str:
        return f"port {self.port} (for {self.part}) is taken by {self._holder()}"

    def _holder(self) -> str:
        if self.pid is None:
            ask = f"sudo ss -ltnp 'sport = :{self.port}'"
            return f"a process of another user; who it is: {ask}"
        holder = f"{self.name} (pid {self.pid})"
        if self.unit is None:
            return f"{holder}; to end it: kill {self.pid}"
        return f"{holder}; to end it: sudo systemctl stop {self.unit}"


def taken(parts: Iterable[Service]) -> tuple[Taken, ...]:
    """Try every part's ports."""
    wanted = [(port, part.name) for part in parts for port in part.ports]
    busy = [(port, name) for port, name in wanted if not _free(port)]
    listeners = _listeners() if busy else {}
    return tuple(_describe(port, name, listeners.get(port)) for port, name in busy)


def _free(port: int) -> bool:
    with socket.socket() as attempt:
        # As every part does: a port in TIME_WAIT is no obstacle.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _listeners() -> dict[int, int | None]:
    """Map listened ports to pids; a pid that can be seen wins over None."""
    found: dict[int, int | None] = {}
    for each in psutil.net_connections(kind="tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr:
            port = each.laddr.port
            found[port] = found.get(port) or each.pid
    return found


def _describe(port: int, part: str, pid: int | None) -> Taken:
    if pid is None:
        return Taken(port, part)
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:  # ended meanwhile
        name = "a process that just ended"
    return Taken(port, part, pid, name, _unit(pid))


def _unit(pid: int) -> str | None:
    """Name the systemd service that a process belongs to."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return None
    last = groups.strip().rpartition("/")[2]
    # user@1000.service is a whole login: nobody should stop that.
    return last if last.endswith(".service") and "@" not in last else None
